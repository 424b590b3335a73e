"""One upload of many images through Envoy: what the memory of all that it passes grows by."""

import io
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from image_categorizer import Batch, ImageCategorizationClient
from PIL import Image

from tests.reliability.conftest import part
from tests.support.up import Up

MOST_GROWTH_BYTES = 100 * 2**20
PARTS = ("server", "gateway", "worker")
BOUNDARY = "nobody-writes-this"


def pictures(count: int, side_px: int = 32) -> Iterator[tuple[str, bytes]]:
    """Yields so many pictures, all different, made as fast as they can be sent."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side_px, side_px, 3), np.uint8)).save(buffer, "BMP")
    pixel_bytes = side_px * side_px * 3
    head = buffer.getvalue()[:-pixel_bytes]
    for number in range(count):
        yield f"{number}.bmp", head + os.urandom(pixel_bytes)


def by_stream(up: Up, key: str, count: int) -> str:
    with ImageCategorizationClient(key, up.url) as client:
        return client.batches.submit(pictures(count)).batch_id


def by_form(up: Up, key: str, count: int) -> str:
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
    }
    body = form(pictures(count))
    answer = httpx.post(f"{up.url}/v1/batch", headers=headers, content=body, timeout=600)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["batch_id"])


def form(files: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    for name, content in files:
        head = f'content-disposition: form-data; name="images[]"; filename="{name}"'
        yield f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


WAYS = {"stream": by_stream, "form": by_form}


class Memory:
    """How much the processes of each part hold, and have held at most."""

    def __init__(self, up: Up) -> None:
        self._processes = {name: part(up, name) for name in PARTS}
        self.before = self.now()
        self.most = dict(self.before)

    def now(self) -> dict[str, int]:
        return {
            name: sum(p.memory_info().rss for p in (main, *main.children(recursive=True)))
            for name, main in self._processes.items()
        }

    def look(self) -> None:
        self.most = {name: max(size, self.most[name]) for name, size in self.now().items()}

    @property
    def growth(self) -> dict[str, int]:
        return {name: self.most[name] - self.before[name] for name in PARTS}


@contextmanager
def watched(up: Up) -> Iterator[Memory]:
    memory, done = Memory(up), threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            memory.look()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield memory
    finally:
        done.set()
        looking.join()


def finished(up: Up, key: str, batch_id: str) -> Batch:
    with ImageCategorizationClient(key, up.url) as client:
        for batch in client.batches.watch(batch_id):  # noqa: B007 - the last one
            pass
        return batch


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.timeout(180)
def test_memory_does_not_grow_with_an_upload(installation, way, count):
    up = installation(
        CATEGORIZER_TEST__FAKE_MODEL="0,0",
        CATEGORIZER_MODELS__DEFAULT="fake",
        CATEGORIZER_CACHE__TTL_S="0",
    )
    key = up.shown_key()
    upload = WAYS[way]
    finished(up, key, upload(up, key, 500))  # what is loaded on first use is no growth
    with watched(up) as memory:
        begin_s = time.monotonic()
        batch_id = upload(up, key, count)
        uploaded_s = time.monotonic() - begin_s
        batch = finished(up, key, batch_id)
        all_s = time.monotonic() - begin_s
    megabytes = {name: round(size / 2**20) for name, size in memory.growth.items()}
    print(
        f"\n{count} by {way}: uploaded in {uploaded_s:.0f} s ({count / uploaded_s:.0f}/s),"
        f" classified in {all_s:.0f} s ({count / all_s:.0f}/s); growth in MB: {megabytes}"
    )
    assert (batch.state, batch.succeeded_count) == ("COMPLETED", count)
    assert all(size <= MOST_GROWTH_BYTES for size in memory.growth.values()), megabytes
