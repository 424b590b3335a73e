"""Converts a model once, in a process of its own, and keeps the result in the cache.

torch and transformers take seconds to import and hundreds of MB to hold.  A result appears by one
rename, so several servers may share a cache.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from image_categorizer_server.tasks import kill_process


class ConversionFailed(Exception):
    """There is no result. The text is the last line that the process wrote."""


async def ensure_converted(
    folder: Path, last_file: str, module: str, words: Sequence[str], timeout_s: float
) -> None:
    """Makes a folder by `python -m MODULE WORDS FOLDER`, unless it is there.

    Args:
        folder: the result.
        last_file: the file that is written last: a folder without it is not a result.
        module: writes the result.
        words: its arguments before the folder.
        timeout_s: the longest time it may take.

    Raises:
        ConversionFailed: the process fails, or takes longer than `timeout_s`.
    """
    if (folder / last_file).exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder.parent))
    try:
        await _run([sys.executable, "-m", module, *words, str(incoming)], timeout_s)
        _publish(incoming, folder, last_file)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _publish(incoming: Path, folder: Path, last_file: str) -> None:
    try:
        incoming.rename(folder)
    except OSError:
        # Another process may have been first.
        if not (folder / last_file).exists():
            raise


async def _run(command: Sequence[str], timeout_s: float) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, errors = await process.communicate()
    except TimeoutError:
        raise ConversionFailed(f"it took longer than {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            await kill_process(process)
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        raise ConversionFailed(lines[-1])
