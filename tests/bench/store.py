"""What `store` costs in a batch: `python -m tests.bench.store FOLDER [COUNT]`.

Classifies photographs of CATEGORIZER_TEST_DATA with the packaged model, as a worker does, with and
without `store`, in turns, in this process and a real PostgreSQL.  Prints processor time for each
image and the ratio of the two throughputs: all of it in one run, so that a busy machine slows both.
"""

import asyncio
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil
from image_categorizer_server.backend import Backend, open_backend
from image_categorizer_server.domain.classification import Caller, ClassifyOptions, Lane
from image_categorizer_server.domain.tenant import one_tenant
from image_categorizer_server.settings import TEST_DATA, Settings
from PIL import Image

from tests.bench.corrections import photographs
from tests.conftest import EXPORTS
from tests.support.cluster import open_cluster
from tests.support.registries import load_every_model

ROUNDS, WARM_UP = 4, 32
AT_ONCE = 16
"""As many images of a chunk as a worker has under way."""
JPEG_QUALITY = 85


def pictures(count: int) -> Iterator[bytes]:
    """Yields as many photographs, all different, each clean as a web site's."""
    originals = photographs(Path(os.environ[TEST_DATA]))
    for number in range(count):
        with Image.open(io.BytesIO(originals[number % len(originals)])) as opened:
            picture = opened.convert("RGB")
        cut = number // len(originals)
        buffer = io.BytesIO()
        picture.crop((0, cut, *picture.size)).save(buffer, "JPEG", quality=JPEG_QUALITY)
        yield buffer.getvalue()


def spent_s(folder: Path) -> tuple[float, float]:
    """Returns the processor time of this process, and of PostgreSQL; of both since their start."""
    postgres = 0.0
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):  # it has ended meanwhile, or belongs to somebody else
            if process.info["name"] == "postgres" and Path(process.cwd()).is_relative_to(folder):
                times = process.cpu_times()
                postgres += times.user + times.system
    return time.process_time(), postgres


async def classify(backend: Backend, contents: Sequence[bytes], *, store: bool) -> float:
    """Classifies images as those of a batch; returns the seconds that it takes."""
    options = ClassifyOptions(store=store, no_cache=True)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(content: bytes) -> None:
        async with slots:
            caller = Caller("default", Lane.BATCH, time.monotonic() + 120, is_batch_item=True)
            await backend.classifications.classify(content, options, caller)

    start_s = time.perf_counter()
    with one_tenant("default"):
        await asyncio.gather(*map(one, contents))
    return time.perf_counter() - start_s


async def measure(folder: Path, count: int) -> None:
    """Prints the figures."""
    contents = list(pictures(count + WARM_UP))
    share = count // ROUNDS
    async with open_cluster(folder / "stores") as cluster:
        settings = Settings(
            DATABASE_URL=cluster.postgres.url,
            REDIS_URL=cluster.redis.url,
            MODEL_PATH=folder / "models",
            storage={"path": folder / "images"},
            models={"cache_path": EXPORTS},
            cache={"ttl_s": 0},
        )
        async with open_backend(settings) as backend:
            await load_every_model(backend.registry)
            for store in (False, True):  # first calls are slower
                await classify(backend, contents[count:], store=store)
            ratios = []
            cost = {True: [0.0, 0.0], False: [0.0, 0.0]}
            for number in range(ROUNDS):
                some = contents[number * share : (number + 1) * share]
                taken_s = {}
                for store in (False, True) if number % 2 else (True, False):
                    before = spent_s(folder)
                    taken_s[store] = await classify(backend, some, store=store)
                    for part, (a, b) in enumerate(zip(before, spent_s(folder), strict=True)):
                        cost[store][part] += (b - a) * 1000 / (share * ROUNDS)
                ratios.append(taken_s[False] / taken_s[True])
    for store, (own_ms, postgres_ms) in cost.items():
        name = "with store" if store else "without"
        print(f"{name:<11} processor {own_ms:5.1f} ms an image, PostgreSQL {postgres_ms:4.1f} ms")
    more = sum(cost[True]) / sum(cost[False]) - 1
    print(
        f"with store: {median(ratios):.2f} of the throughput (rounds "
        f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}), {more:+.0%} processor time; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1]), int((sys.argv[2:] or ["640"])[0])))
