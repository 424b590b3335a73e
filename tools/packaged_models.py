"""Makes the packaged model and its int8 version: python tools/packaged_models.py FOLDER."""

import asyncio
import sys
from pathlib import Path

from image_categorizer_server.inference.models.packaged import ensure_packaged, make_fast_version
from image_categorizer_server.settings.model import ModelSettings


async def make(folder: Path) -> None:
    """Makes both, unless they are there: where an image runs, int8 may be faster."""
    settings = ModelSettings(cache_path=folder)
    await ensure_packaged(settings)
    await make_fast_version(settings)


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]).absolute()))
