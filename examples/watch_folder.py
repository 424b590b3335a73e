"""Classifies each picture that appears in a folder, and writes a line of JSON for it.

    pip install watchfiles
    API_KEY=ic_... python examples/watch_folder.py incoming >> labels.jsonl

A program that writes into the folder should write `name.part`, and rename it when it is complete:
a half-written picture is reported as an error, and classified once it is changed again. Ctrl-C ends
the program. Pictures that were there before are classified first.
"""

import argparse
import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from image_categorizer import AsyncImageCategorizationClient, Result, image_files
from watchfiles import Change, awatch

# What `image_files` takes for a picture, for one file.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


async def pictures(folder: Path, stop: asyncio.Event) -> AsyncIterator[str]:
    """Yields the pictures of the folder, then each that comes or changes, until `stop` is set."""
    # Listens first: what arrives while the others are listed is not missed, but may come twice.
    changes = awatch(folder, stop_event=stop, yield_on_timeout=True, rust_timeout=1000)
    first = await anext(changes, set())
    listed = await asyncio.to_thread(image_files, folder)
    for path in listed:
        yield path
    for path in appeared(first):
        if path not in listed:
            yield path
    async for found in changes:
        for path in appeared(found):
            yield path


def appeared(changes: set[tuple[Change, str]]) -> list[str]:
    """Returns the pictures that are new or have changed."""
    return sorted(
        path
        for change, path in changes
        if change != Change.deleted and path.lower().endswith(SUFFIXES)
    )


def line(result: Result) -> str:
    """Returns a result as a line of JSON."""
    fields = {"file": result.key, "category": result.category, "confidence": result.confidence}
    return json.dumps(fields | ({"error": str(result.error)} if result.error else {}))


async def watch(folder: Path) -> None:
    """Classifies what appears, over one connection, until the program is asked to end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    base_url = os.environ.get("BASE_URL", "localhost:8080")
    async with AsyncImageCategorizationClient(os.environ["API_KEY"], base_url) as client:
        async for result in client.classify_stream(pictures(folder, stop), top_k=1):
            print(line(result), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classify each picture that appears in a folder.")
    parser.add_argument("folder", type=Path)
    asyncio.run(watch(parser.parse_args().folder))
