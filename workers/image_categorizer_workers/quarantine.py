"""Items that are suspected of killing whoever works on them: each in a process of its own.

That process works under this one's lease.  Where it dies, this one lives to tell; where this one
dies too, the item has not been shown to be the reason.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict

from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.domain.batch import BatchItem, Chunk
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.leases import keep

log = get_log(__name__)
ALONE = "alone"
RETRY_S = 5.0
PR_SET_PDEATHSIG = 1  # prctl(2)


async def run_alone(chunk: Chunk, lease_s: float, turns: asyncio.Semaphore) -> None:
    """Does a chunk of one item in a child process; where that one dies, that counts.

    Raises:
        DependencyDown: the database does not answer.
    """
    keeping = asyncio.create_task(keep(chunk, lease_s))
    running = asyncio.create_task(_run_child(dumped(chunk), turns))
    try:
        await asyncio.wait({keeping, running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        has_ended = running.done()
        for task in (keeping, running):
            task.cancel()
        await asyncio.gather(keeping, running, return_exceptions=True)
        if not has_ended:
            await chunks.give_back(chunk)
    if not has_ended:
        log.warning("a lease was lost", batch_id=chunk.batch_id, chunk=chunk.number)
        return
    status = running.result()
    if status < 0:
        log.warning("an item killed its process", batch_id=chunk.batch_id, status=status)
        await chunks.record_crash(chunk)
    elif status:
        await chunks.give_back(chunk, RETRY_S)


async def _run_child(words: bytes, turns: asyncio.Semaphore) -> int:
    """Returns the child's exit status; the child does not outlive the call."""
    async with turns:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "image_categorizer_workers", ALONE, str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
        )
        try:
            await child.communicate(words)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert child.returncode is not None
        return child.returncode


def dumped(chunk: Chunk) -> bytes:
    """Returns a chunk as JSON."""
    return json.dumps(asdict(chunk)).encode()


def loaded(content: bytes) -> Chunk:
    """Returns the chunk that `dumped` wrote."""
    fields = json.loads(content)
    options = fields.pop("options")
    for name in ("include_categories", "exclude_categories"):
        options[name] = tuple(options[name])
    items = tuple(BatchItem(**item) for item in fields.pop("items"))
    fields["server_crashes"] = {
        int(number): count for number, count in fields["server_crashes"].items()
    }
    return Chunk(**fields, options=ClassifyOptions(**options), items=items)


def die_with(parent: int) -> None:
    """Makes this process die with its parent.

    By itself: whatever a process full of threads, as gRPC makes it, runs between fork and exec may
    crash, and would be taken for the item's doing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit(1)
