"""Isolates images that may crash servers or workers, until it is clear which ones do.

Images that crash the server:

    sent with others ─▶ the server crashes ─▶ sent alone ─▶ answered: not the cause
                                               ▲    └─▶ the server crashes ─┐
                                               └──────── up to the limit ───┴─▶ the image fails

All images that the server had when it crashed are sent one at a time from then on, across all
workers.  The chunk in the database counts the crashes for each image, for the next worker to know.

Chunks that crash workers: the database splits them into chunks of one item.  Each of those runs in
a child process, under this process's lease.  If the child dies, or hangs until it is killed, the
item is the cause.  If this process dies, that says nothing about the item.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict

from image_categorizer import Classification as Answer
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import BatchItem, Chunk
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.errors import DependencyDown, ItemKilledServers
from image_categorizer_server.settings.worker import WorkerSettings
from image_categorizer_server.tasks import kill_process
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.leases import LeaseLost, keep_lease, retry_backoff
from image_categorizer_workers.streams import Sent, ServerCrashed, StreamKind, StreamPool

log = get_log(__name__)
ISOLATED = "isolated"
RETRY_DELAY_S = 5.0
NOT_STARTED = 1  # as if the child had ended because of an error
PR_SET_PDEATHSIG = 1  # prctl(2)


class IsolatingClassifier:
    """Classifies the images of one chunk, and isolates those that may crash the server."""

    def __init__(self, chunk: Chunk, streams: StreamPool, settings: WorkerSettings) -> None:
        self._chunk = chunk
        self._streams = streams
        self._isolate_after = settings.isolate_after_server_crashes
        self._fail_after = self._isolate_after + settings.fail_after_server_crashes
        self._server_crashes = chunk.server_crashes
        self._uncounted: set[int] = set()
        self._counting = asyncio.Lock()

    async def classify(self, item: BatchItem, content: bytes) -> Answer:
        """Classifies an image, again if the server crashes.

        Raises:
            ItemKilledServers: the server crashed too often while it had the image alone.
            LeaseLost: another process has the chunk.
            DependencyDown: the database does not answer.
            CategorizerError, CallFailed: see `StreamPool.classify`.
        """
        kind = StreamKind(self._chunk.tenant_id, self._chunk.options, self._chunk.key_id)
        number, sent = item.number, Sent(content, item.filename, item.blur)
        while True:
            crashes = self._server_crashes.get(number, 0)
            try:
                if crashes < self._isolate_after:
                    return await self._streams.classify(kind, sent)
                # The lock first: one connection of this process waits for its turn, not many.
                async with self._streams.isolation_lock, chunks.isolation():
                    return await self._streams.classify_isolated(kind, sent)
            except ServerCrashed:
                crashes = await self._count_crash(number)
            if crashes >= self._fail_after:
                raise ItemKilledServers(
                    f"the server crashed {crashes} times while it had the image"
                )

    async def _count_crash(self, number: int) -> int:
        """Counts a crash, in one statement for all images that the server had."""
        self._uncounted.add(number)
        await asyncio.sleep(0)  # lets the others join
        async with self._counting:
            if number in self._uncounted:
                numbers, self._uncounted = self._uncounted, set()
                self._server_crashes = await self._record_crashes(numbers)
        return self._server_crashes[number]

    async def _record_crashes(self, numbers: set[int]) -> dict[int, int]:
        backoff = retry_backoff()
        while True:
            try:
                counts = await chunks.count_server_crashes(self._chunk, numbers)
            except DependencyDown:
                await asyncio.sleep(backoff.next_s())
                continue
            if counts is None:
                raise LeaseLost
            log.warning(
                "the server crashed",
                batch_id=self._chunk.batch_id,
                chunk=self._chunk.number,
                images=len(numbers),
            )
            return counts


async def run_isolated(chunk: Chunk, settings: WorkerSettings, limiter: asyncio.Semaphore) -> None:
    """Runs a chunk of one item in a child process, and records the crash if the child dies.

    Args:
        chunk: one item that may crash workers.
        settings: how long its lease lasts, and how long the child may take.
        limiter: limits the child processes of this process.

    Raises:
        DependencyDown: the database does not answer. The chunk stays leased.
    """
    names = {"batch_id": chunk.batch_id, "chunk": chunk.number}
    status: int | None = None
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keep_lease(chunk, settings.lease_s))
            status = await _run_child(dump_chunk(chunk), limiter, settings.isolated_timeout_s)
            keeping.cancel()
    except* LeaseLost:
        log.warning("a lease was lost", **names)
    finally:
        if status is None:  # the child was killed before its end
            await chunks.give_back(chunk)
    if status is None or status == 0:
        return
    if status > 0:  # the child logged why
        await chunks.give_back(chunk, RETRY_DELAY_S)
    else:
        log.warning("an image killed its process", signal=-status, **names)
        await chunks.record_crash(chunk)


async def _run_child(chunk: bytes, limiter: asyncio.Semaphore, timeout_s: float) -> int:
    """Returns the exit status of the child. Kills the child if it hangs, or if cancelled."""
    async with limiter:
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "image_categorizer_workers", ISOLATED, str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            log.warning("cannot start a child process", error=repr(error))
            return NOT_STARTED
        try:
            # The lease is extended as long as the child runs, so something must end a child.
            async with asyncio.timeout(timeout_s):
                await child.communicate(chunk)
        except TimeoutError:
            log.warning("an isolated image takes too long", timeout_s=timeout_s)
        finally:
            if child.returncode is None:
                status = await kill_process(child)
            else:
                status = child.returncode
        return status


def dump_chunk(chunk: Chunk) -> bytes:
    """Returns a chunk as JSON."""
    return json.dumps(asdict(chunk)).encode()


def load_chunk(content: bytes) -> Chunk:
    """Returns the chunk that `dump_chunk` wrote."""
    fields = json.loads(content)
    options = fields.pop("options")
    for name in ("include_categories", "exclude_categories", "blur"):
        options[name] = tuple(options[name])
    items = tuple(
        BatchItem(**{**item, "blur": tuple(item["blur"])}) for item in fields.pop("items")
    )
    fields["server_crashes"] = {
        int(number): count for number, count in fields["server_crashes"].items()
    }
    return Chunk(**fields, options=ClassifyOptions(**options), items=items)


def die_with_parent(parent: int) -> None:
    """Makes the kernel kill this process when its parent dies.

    The child does this itself.  With `preexec_fn`, Python would run code between fork and exec,
    which may crash in a process with as many threads as gRPC starts; the crash would count as the
    item's.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before the call
        sys.exit(1)
