"""Items that are suspected of killing whoever works on them: each in a process of its own.

That process works under this one's lease.  Where it dies, this one lives to tell; where this one
dies too, the item has not been shown to be the reason.
"""

import asyncio
import ctypes
import json
import signal
import sys
from dataclasses import asdict

from image_categorizer_server.db import chunks
from image_categorizer_server.domain import (
    BatchItem,
    Chunk,
    ClassifyOptions,
)
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ALONE = "alone"
RETRY_S = 5.0
PR_SET_PDEATHSIG = 1  # prctl(2)


async def run_alone(chunk: Chunk) -> None:
    """Does a chunk of one item in a child process; where that one dies, that counts.

    Raises:
        DependencyDown: expected; the database does not answer.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "image_categorizer_workers", ALONE),
        stdin=asyncio.subprocess.PIPE,
        preexec_fn=_die_with_parent,
    )
    try:
        await child.communicate(dumped(chunk))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
            await chunks.give_back(chunk)
    assert child.returncode is not None
    if child.returncode < 0:
        log.warning("an item killed its process", batch_id=chunk.batch_id, status=child.returncode)
        await chunks.bury(chunk)
    elif child.returncode:
        await chunks.give_back(chunk, RETRY_S)


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
    return Chunk(**fields, options=ClassifyOptions(**options), items=items)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
