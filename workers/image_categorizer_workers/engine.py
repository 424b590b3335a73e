"""Claims chunks and runs several at a time. PostgreSQL decides which chunk comes first."""

import asyncio
from contextlib import AbstractContextManager

from image_categorizer_server.clock import jittered
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import Chunk
from image_categorizer_server.domain.tenant import one_tenant
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.tasks import TaskOwner, run_until, uncancelled
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.telemetry.tracing import traced

from image_categorizer_workers.chunk import ChunkRunner, Components
from image_categorizer_workers.leases import retry_backoff
from image_categorizer_workers.quarantine import run_isolated

log = get_log(__name__)
# A child process takes a second to start.  Several at once would only slow each other down.
MAX_ISOLATED_CHUNKS = 1
# How long the database may take to record that chunks are claimed or given back, when the process
# stops.
CLEAN_UP_S = 5.0


class Engine:
    """Runs the chunks of one worker process."""

    def __init__(self, name: str, components: Components) -> None:
        """Configures the engine.

        Args:
            name: of this process; no other process has it or had it.
            components: what every chunk uses.
        """
        self._name = name
        self._components = components
        self._settings = components.settings
        self._doorbell = asyncio.Event()
        self._stopping = asyncio.Event()
        self._free = asyncio.Semaphore(self._settings.chunks)
        self._isolated = asyncio.Semaphore(MAX_ISOLATED_CHUNKS)
        self._tasks = TaskOwner(clean_up_s=CLEAN_UP_S)
        self._lease_tokens: set[int] = set()
        """Of the chunks under way."""
        self._may_have_lost_claims = False

    def wake(self) -> None:
        """Makes an idle engine look for work at once."""
        self._doorbell.set()

    def stop(self) -> None:
        """Makes `run` return soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs chunks until `stop`. Then finishes what it can within `grace_s`.

        Chunks that are not finished are given back, also if `run` is cancelled.
        """
        async with self._tasks:
            await run_until(self._stopping, self._claim_chunks(), CLEAN_UP_S)
            if len(self._tasks):
                grace_s = self._settings.grace_s
                log.info("stopping", chunks=len(self._tasks), grace_s=grace_s)
                await self._tasks.wait(grace_s)
                if len(self._tasks):
                    log.info("giving chunks back", chunks=len(self._tasks))

    async def _claim_chunks(self) -> None:
        backoff = retry_backoff()
        while True:
            await self._free.acquire()
            self._doorbell.clear()
            try:
                # A claim that is cancelled half-way would leave a chunk leased but not run.
                is_claimed = await uncancelled(self._claim_chunk())
                backoff.reset()
            except Exception as error:  # must not end the process and the chunks under way
                self._may_have_lost_claims = True
                self._free.release()
                if isinstance(error, DependencyDown):
                    log.warning("cannot claim: the database does not answer", error=repr(error))
                else:
                    log.exception("cannot claim because of a bug")
                await asyncio.sleep(backoff.next_s())
                continue
            if not is_claimed:
                self._free.release()
                await self._idle()

    async def _claim_chunk(self) -> bool:
        """Claims a chunk and starts it; returns False if none is ready."""
        if self._may_have_lost_claims:
            if lost := await chunks.give_back_lost(self._name, self._lease_tokens):
                log.warning("gave back chunks: the answer to their claim was lost", chunks=lost)
            self._may_have_lost_claims = False
        chunk = await chunks.claim(self._name, self._settings.lease_s)
        if chunk is None:
            return False
        self._lease_tokens.add(chunk.lease_token)
        self._tasks.start(self._run_chunk(chunk), f"chunk {chunk.number} of {chunk.batch_id}")
        # Lets it begin: a task cancelled before its first step would not give back its chunk.
        await asyncio.sleep(0)
        return True

    async def _run_chunk(self, chunk: Chunk) -> None:
        try:
            with one_tenant(chunk.tenant_id), _traced(chunk):
                if chunk.is_isolated:
                    await run_isolated(chunk, self._settings, self._isolated)
                else:
                    await ChunkRunner(chunk, self._components).run()
        except DependencyDown as error:
            self._may_have_lost_claims = True
            log.warning("a chunk stays leased: the database does not answer", error=repr(error))
        except Exception:  # a bug in one chunk must not end the others
            log.exception("a chunk failed", batch_id=chunk.batch_id, chunk=chunk.number)
        finally:
            self._lease_tokens.discard(chunk.lease_token)
            self._free.release()

    async def _idle(self) -> None:
        """Waits for the doorbell, or for the time to look for work anyway."""
        try:
            async with asyncio.timeout(jittered(self._settings.poll_interval_s)):
                await self._doorbell.wait()
        except TimeoutError:
            pass


def _traced(chunk: Chunk) -> AbstractContextManager[object]:
    """Records the run of a chunk in the trace of its batch."""
    attributes: dict[str, str | int] = {
        "messaging.operation.type": "process",
        "messaging.batch.message_count": len(chunk.items),
        "categorizer.batch_id": chunk.batch_id,
        "categorizer.chunk": chunk.number,
    }
    return traced("process chunk", "consumer", attributes, traceparent=chunk.traceparent)
