"""How fast and how exact similar images are found: `python -m tests.bench.similar FOLDER [COUNT]`.

Embeds pictures of CATEGORIZER_TEST_DATA with the packaged model, makes COUNT embeddings of the same
kind from them (one picture's, plus a part of the difference of two others), stores them in a real
PostgreSQL, and searches for pictures that were held out.  Needs 6 GB in FOLDER for a million.
"""

import asyncio
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from image_categorizer_server.inference.embedding import embedding_of
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.export import ensure_export
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.services.neighbours import STORED, Neighbours
from image_categorizer_server.services.sign_codes import codes_of
from image_categorizer_server.settings import TEST_DATA
from image_categorizer_server.settings.database import DatabaseSettings
from image_categorizer_server.settings.embedding import EmbeddingSettings
from numpy.typing import NDArray

from tests.conftest import EXPORTS
from tests.support.cluster import open_cluster
from tests.support.database import connect_as_owner, open_for_all_tenants
from tests.unit.conftest import LIMITS

MODEL = "efficientnet_lite0"
PICTURES, QUERIES, TOP = 2000, 50, 10
PART = 10_000
IMAGE_FIELDS = [
    *("tenant_id", "image_id", "subject_key", "subject_id", "sha256", "object_key", "size_bytes"),
    *("format", "width_px", "height_px", "filename", "tags", "create_time"),
]
ROW_FIELDS = ["tenant_id", "image_id", "model_digest", "code", "vector", "written_by"]
Vectors = NDArray[np.float32]


def pictures() -> Iterator[bytes]:
    """Yields every fifth of the test pictures of CIFAR-10."""
    archive = Path(os.environ[TEST_DATA]) / "datasets" / "cifar10.tar.gz"
    with tarfile.open(archive) as tar:
        tests = (m for m in tar if m.isfile() and m.name.startswith("test/"))
        for number, member in enumerate(tests):
            file = tar.extractfile(member)
            if number % (10_000 // PICTURES) == 0 and file:
                yield file.read()


async def embedded(folder: Path) -> Vectors:
    """Returns embeddings float32 (N, D) of the pictures."""
    write_version(MODEL, 1, installed_weights(MODEL), folder)
    manifest = read_manifest(folder)
    file, _ = await ensure_export(folder, manifest, EXPORTS, 300)
    runtime, preprocessor = OnnxRuntime(file, 2, 1), Preprocessor(Decoder(LIMITS), manifest.input)
    found = []
    for content in pictures():
        answer = runtime.predict([preprocessor.prepare(content).array], with_features=True)
        assert answer.features is not None
        found.append(embedding_of(answer.features[0]))
    return np.stack(found)


def made(seed: Vectors, count: int) -> Iterator[NDArray[np.float16]]:
    """Yields embeddings in half precision, in parts."""
    random = np.random.default_rng(5)
    for _ in range(count // PART):
        one, two, three = (seed[random.integers(0, len(seed), PART)] for _ in range(3))
        share = random.uniform(0.2, 0.7, (PART, 1)).astype(np.float32)
        vectors = np.maximum(one + share * (two - three), 0)
        yield (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(STORED)


async def fill(url: str, seed: Vectors, queries: Vectors, count: int) -> list[set[str]]:
    """Stores the embeddings; returns the ids of the images most similar to each query."""
    connection = await connect_as_owner(url)
    now = await connection.fetchval("SELECT now()")
    best = np.full((len(queries), TOP), -1, np.float32)
    best_ids = np.zeros((len(queries), TOP), np.int64)
    for part, vectors in enumerate(made(seed, count)):
        exact = vectors.astype(np.float32)
        numbers = np.arange(part * PART, (part + 1) * PART)
        similar = np.concatenate([best, queries @ exact.T], axis=1)
        ids = np.concatenate([best_ids, np.broadcast_to(numbers, (len(queries), PART))], axis=1)
        chosen = np.argpartition(-similar, TOP, axis=1)[:, :TOP]
        best, best_ids = (np.take_along_axis(a, chosen, 1) for a in (similar, ids))
        images: list[tuple[object, ...]] = [
            ("default", f"i-{n:024}", "", "", str(n), "x", 1, "JPEG", 1, 1, "", [], now)
            for n in numbers
        ]
        await connection.copy_records_to_table("images", records=images, columns=IMAGE_FIELDS)
        rows = [
            ("default", f"i-{n:024}", "made", code.tobytes(), vector.tobytes(), 1 + part)
            for n, code, vector in zip(numbers, codes_of(exact), vectors, strict=True)
        ]
        await connection.copy_records_to_table("image_embeddings", records=rows, columns=ROW_FIELDS)
    await connection.execute("VACUUM ANALYZE images, image_embeddings")
    await connection.close()
    return [{f"i-{n:024}" for n in row} for row in best_ids]


async def search(queries: Vectors, truth: list[set[str]], candidates: int) -> None:
    """Prints how long searches take, and how many of the most similar images they find."""
    process = psutil.Process()
    neighbours = Neighbours(EmbeddingSettings(index_mb=4096, candidates=candidates))
    before, start_s = process.memory_info().rss, time.perf_counter()
    await neighbours.nearest("default", "made", queries[0], TOP)
    load_s, grown = time.perf_counter() - start_s, process.memory_info().rss - before
    times_ms, shares, start_cpu_s = [], [], time.process_time()
    for query, expected in zip(queries, truth, strict=True):
        start_s = time.perf_counter()
        found = await neighbours.nearest("default", "made", query, TOP)
        times_ms.append((time.perf_counter() - start_s) * 1000)
        shares.append(len(expected & {n.image_id for n in found}) / TOP)
    cpu_ms = (time.process_time() - start_cpu_s) * 1000 / len(queries)
    p50, p95 = np.percentile(times_ms, [50, 95])
    print(
        f"{candidates} candidates: recall@{TOP} {np.mean(shares):.3f}, p50 {p50:.0f} ms, "
        f"p95 {p95:.0f} ms, processor {cpu_ms:.0f} ms; loaded in {load_s:.1f} s, "
        f"{neighbours.size_bytes / 2**20:.0f} MB of codes, "
        f"process grew by {grown / 2**20:.0f} MB",
        flush=True,
    )


async def measure(folder: Path, count: int) -> None:
    """Prints the figures."""
    model = folder / "model"
    model.mkdir(parents=True)
    vectors = await embedded(model)
    seed, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    async with open_cluster(folder / "stores") as cluster:
        url = cluster.postgres.url
        start_s = time.perf_counter()
        truth = await fill(url, seed, queries, count)
        print(f"{count} embeddings stored in {time.perf_counter() - start_s:.0f} s", flush=True)
        async with open_for_all_tenants(url, DatabaseSettings(timeout_s=60)):
            for candidates in (100, 250, 500, 1000):
                await search(queries, truth, candidates)


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1]), int((sys.argv[2:] or ["1000000"])[0])))
