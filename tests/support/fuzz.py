"""Decodes damaged images and prints the outcomes as JSON.

    python -m tests.support.fuzz RUNS SEED

It runs in a process of its own: so that its memory can be measured, so that a crash is noticed, and
because tests turn warnings into errors, which a server does not.
"""

import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from PIL import Image, features

from tests.support.pictures import encoded, scene

# The defaults, but fewer pixels: a test must not need 200 MB for an image.
LIMITS = ImageLimits(10 * 2**20, 4_000_000, 16_384, 100, 100)
SMALL_PX = (32, 32)
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"]
FORMATS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "JPEG": {mode: [{}, {"progressive": True}, {"quality": 30}] for mode in ("L", "RGB", "CMYK")},
    "PNG": {mode: [{}] for mode in MODES if mode != "CMYK"},
    "WEBP": {mode: [{}, {"lossless": True}] for mode in ("RGB", "RGBA")},
    "GIF": {mode: [{}] for mode in ("L", "P", "1")},
    "BMP": {mode: [{}] for mode in ("1", "L", "P", "RGB", "RGBA")},
    "AVIF": {mode: [{}] for mode in ("RGB", "RGBA")} if features.check("avif") else {},
    "TIFF": {
        mode: [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}]
        for mode in ("L", "RGB", "CMYK", "P")
    },
}
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def seeds() -> list[bytes]:
    """Returns valid files of all formats and many modes, with several compressions."""
    files = []
    for image_format, modes in FORMATS.items():
        for number, (mode, variants) in enumerate(modes.items()):
            picture = Image.fromarray(scene(48 + number, 36, seed=number))
            image = (
                picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
            )
            files += [encoded(image, image_format, **options) for options in variants]
    exif = Image.Exif()
    exif[0x0112] = 6
    files += [encoded(scene(40, 30), f, exif=exif) for f in ("JPEG", "PNG", "WEBP", "TIFF")]
    return files


def mutated(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Returns the file with one to eight faults."""
    data = bytearray(content)
    for _ in range(random.integers(1, 9)):
        at = int(random.integers(0, max(1, len(data))))
        # Half of the faults hit the first bytes, where the headers are.
        if random.integers(0, 2):
            at %= 96
        length = int(random.integers(1, 33))
        match random.integers(0, 6):
            case 0:
                data[at : at + 1] = random.bytes(1)
            case 1:
                data[at : at + 1] = bytes([INTERESTING[random.integers(0, len(INTERESTING))]])
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = random.bytes(length)
            case 4:
                data[at:at] = data[at : at + length] * int(random.integers(1, 5))
            case _:
                start = int(random.integers(0, len(other)))
                data[at : at + length] = other[start : start + length]
    return bytes(data)


def cases(runs: int, seed: int) -> Iterator[bytes]:
    """Yields damaged files, from each seed equally often."""
    random, files = np.random.default_rng(seed), seeds()
    for run in range(runs):
        other = files[random.integers(0, len(files))]
        yield mutated(files[run % len(files)], other, random)


def main(runs: int, seed: int) -> dict[str, Any]:
    """Returns outcomes, the longest time in seconds and the growth of memory in MB."""
    decoder, process = Decoder(LIMITS), psutil.Process()
    outcomes: Counter[str] = Counter()
    slowest_s, undeclared, base = 0.0, [], 0
    for run, content in enumerate(cases(runs, seed)):
        if run == runs // 10:  # libraries and caches have allocated their memory
            base = process.memory_info().rss
        start_s = time.perf_counter()
        try:
            decoder.decode(content, SMALL_PX if run % 2 else None).array()
            outcomes["decoded"] += 1
        except InvalidRequest as error:
            outcomes[error.reason] += 1
        except BaseException as error:  # noqa: BLE001 - reported, and the test fails
            undeclared.append(f"{type(error).__name__} in run {run}: {error}")
        slowest_s = max(slowest_s, time.perf_counter() - start_s)
    gc.collect()
    return {
        "seeds": len(seeds()),
        "runs": runs,
        "outcomes": outcomes,
        "undeclared": undeclared[:10],
        "slowest_s": round(slowest_s, 3),
        "grown_mb": round((process.memory_info().rss - base) / 1e6, 1),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
