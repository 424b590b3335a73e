"""Claims chunks as long as there are any, some at a time; which goes first PostgreSQL decides."""

import asyncio
import random

from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import Chunk
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.chunk import Tools, Work
from image_categorizer_workers.leases import JITTER, backoff_s
from image_categorizer_workers.quarantine import run_alone

log = get_log(__name__)
# Processes take a second to start; more at once would only wait for each other.
ALONE_AT_ONCE = 1


class Engine:
    """The chunks that one process has in hand."""

    def __init__(self, name: str, tools: Tools) -> None:
        """Configures the engine.

        Args:
            name: of this process; nobody else has or had it.
            tools: what the work needs.
        """
        self._name = name
        self._tools = tools
        self._settings = tools.settings
        self._bell = asyncio.Event()
        self._stopping = asyncio.Event()
        self._free = asyncio.Semaphore(self._settings.chunks)
        self._alone = asyncio.Semaphore(ALONE_AT_ONCE)
        self._works: dict[asyncio.Task[None], int] = {}
        """And the token of the lease under which each works."""
        self._may_have_lost = False
        self._claim: asyncio.Task[Chunk | None] | None = None

    def wake(self) -> None:
        """Lets an idle engine look for work at once."""
        self._bell.set()

    async def run(self) -> None:
        """Works until `stop`; then finishes what it can in `grace_s`, and gives back the rest."""
        stopping = asyncio.create_task(self._stopping.wait())
        claiming = asyncio.create_task(self._claim_all())
        try:
            await asyncio.wait({stopping, claiming}, return_when=asyncio.FIRST_COMPLETED)
            if claiming.done():
                claiming.result()
        finally:
            claiming.cancel()
            stopping.cancel()
            await asyncio.gather(claiming, stopping, return_exceptions=True)
            await self._finish()

    def stop(self) -> None:
        """Asks `run` to return."""
        self._stopping.set()

    async def _claim_all(self) -> None:
        attempts = 0
        while True:
            await self._free.acquire()
            self._bell.clear()
            try:
                # Shielded, for a claim that is cut off leaves its chunk leased to nobody.
                self._claim = asyncio.create_task(self._claim_and_begin())
                chunk = await asyncio.shield(self._claim)
                attempts = 0
            except Exception as error:  # must not end the process, and what it has in hand
                attempts += 1
                self._may_have_lost = True
                if isinstance(error, DependencyDown):
                    log.warning("no work: the database does not answer", error=repr(error))
                else:
                    log.exception("a bug; the next claim may go better")
                self._free.release()
                await asyncio.sleep(backoff_s(attempts))
                continue
            if chunk is None:
                self._free.release()
                await self._wait_for_bell()

    async def _claim_and_begin(self) -> Chunk | None:
        if self._may_have_lost:
            if lost := await chunks.give_back_lost(self._name, self._works.values()):
                log.warning("chunks were claimed whose answer got lost", chunks=lost)
            self._may_have_lost = False
        chunk = await chunks.claim(self._name, self._settings.lease_s)
        if chunk is not None:
            work = asyncio.create_task(self._work(chunk))
            self._works[work] = chunk.lease_token
            work.add_done_callback(self._works.pop)
        return chunk

    async def _work(self, chunk: Chunk) -> None:
        try:
            if chunk.is_isolated:
                await run_alone(chunk, self._settings.lease_s, self._alone)
            else:
                await Work(chunk, self._tools).run()
        except DependencyDown as error:
            self._may_have_lost = True
            log.warning("a chunk stays leased for now", error=repr(error))
        except Exception:  # one chunk must not end the process, and the others with it
            log.exception("a chunk failed", batch_id=chunk.batch_id, chunk=chunk.number)
        finally:
            self._free.release()

    async def _wait_for_bell(self) -> None:
        wait_s = self._settings.poll_interval_s * random.uniform(*JITTER)  # noqa: S311 - no secret
        try:
            async with asyncio.timeout(wait_s):
                await self._bell.wait()
        except TimeoutError:
            pass

    async def _finish(self) -> None:
        if self._claim:
            await asyncio.gather(self._claim, return_exceptions=True)
        if self._works:
            log.info("stopping", chunks=len(self._works), grace_s=self._settings.grace_s)
            await asyncio.wait(self._works, timeout=self._settings.grace_s)
        for work in list(self._works):
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
