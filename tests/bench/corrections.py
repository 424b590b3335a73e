"""How similar pictures must be to be corrected: `python -m tests.bench.corrections TEST_DATA`.

Prints, for the packaged model and several thresholds, which share of slightly changed photographs
is as similar to its original, and which share of photographs to another one.
"""

import asyncio
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from image_categorizer_server.domain.embedding import Vector
from image_categorizer_server.inference.embedding import embedding_of
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.export import ensure_export
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.packaged import NAME
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

LIMITS = ImageLimits(
    max_bytes=10_000_000,
    max_pixels=50_000_000,
    max_side_px=20_000,
    max_aspect_ratio=100,
    max_jpeg_scans=50,
    max_tags=100_000,
    min_rows_share=0.9,
)
BATCH = 16
SMALL_PICTURES = 1000
THRESHOLDS = [0.70, 0.75, 0.80, 0.85, 0.90, 0.95]
Embed = Callable[[Sequence[bytes]], NDArray[np.float32]]


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    """Returns a picture as a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cut(picture: Image.Image, share: float) -> Image.Image:
    """Returns a picture without a share of its width and height at each edge."""
    x, y = int(picture.width * share), int(picture.height * share)
    return picture.crop((x, y, picture.width - x, picture.height - y))


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG of quality 50": lambda p: encoded(p, 50),
    "half the size": lambda p: encoded(p.resize((p.width // 2, p.height // 2))),
    "5 % cut off each edge": lambda p: encoded(cut(p, 0.05)),
    "15 % brighter": lambda p: encoded(ImageEnhance.Brightness(p).enhance(1.15)),
    "mirrored": lambda p: encoded(ImageOps.mirror(p)),
}


async def packaged(folder: Path) -> tuple[OnnxRuntime, Preprocessor]:
    """Returns the packaged model, and what makes its inputs, with its files in an empty folder."""
    write_version(NAME, 1, installed_weights(NAME), folder)
    manifest = read_manifest(folder)
    file, _ = await ensure_export(folder, manifest, folder / "exports", 300)
    runtime = OnnxRuntime(file, 0, 1)
    return runtime, Preprocessor(Decoder(LIMITS), manifest.input)


async def embedder(folder: Path) -> Embed:
    """Returns a function that returns the embeddings, float32 (N, D), of encoded images."""
    runtime, preprocessor = await packaged(folder)

    def embed(contents: Sequence[bytes]) -> NDArray[np.float32]:
        found: list[Vector] = []
        for start in range(0, len(contents), BATCH):
            arrays = [preprocessor.prepare(c).array for c in contents[start : start + BATCH]]
            features = runtime.predict(arrays, with_features=True).features
            assert features is not None, "the packaged model has features"
            found += map(embedding_of, features)
        return np.array(found)

    return embed


def photographs(test_data: Path) -> list[bytes]:
    """Returns the labelled photographs, each of another category."""
    folder = test_data / "images" / "labelled"
    entries = json.loads((folder / "validation_set.json").read_text())["images"]
    return [(folder / entry["file"]).read_bytes() for entry in entries]


def small_pictures(test_data: Path, count: int) -> Iterator[bytes]:
    """Yields pictures of 32 by 32 pixels, of all categories of CIFAR-10 alike."""
    with tarfile.open(test_data / "datasets" / "cifar10.tar.gz") as archive:
        names = sorted(n for n in archive.getnames() if "test/" in n and n.endswith(".jpg"))
        for name in names[:: len(names) // count]:
            file = archive.extractfile(name)
            assert file is not None, "a file"
            yield file.read()


def nearest_other(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns how similar the nearest other picture is to each, float32 (N,)."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -1)
    return np.asarray(similarities.max(1), np.float32)


def row(name: str, similarities: NDArray[np.float32]) -> str:
    """Returns a line of the table."""
    low, median, high = np.percentile(similarities, [5, 50, 95])
    shares = "".join(f"{(similarities >= t).mean():8.1%}" for t in THRESHOLDS)
    return f"{name:<38}{low:6.2f}{median:6.2f}{high:6.2f} {shares}"


async def measure(test_data: Path) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        embed = await embedder(Path(folder))
        originals = photographs(test_data)
        vectors = embed(originals)
        thresholds = "".join(f"{f'≥ {t:.2f}':>8}" for t in THRESHOLDS)
        print(f"{'similarity':<38}{'p5':>6}{'p50':>6}{'p95':>6} {thresholds}")
        pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in originals]
        for name, change in CHANGES.items():
            changed = embed([change(picture) for picture in pictures])
            print(row(f"changed: {name}", (changed * vectors).sum(1)))
        print(row("another: photographs", nearest_other(vectors)))
        small = embed(list(small_pictures(test_data, SMALL_PICTURES)))
        print(row("another: CIFAR-10", nearest_other(small)))


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1])))
