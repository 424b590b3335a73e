"""One upload of many images through Envoy: the memory of every process stays bounded."""

import io
import os
import time
from collections.abc import Iterable, Iterator

import httpx
import numpy as np
import pytest
from image_categorizer import Batch, ImageCategorizationClient
from PIL import Image

from tests.support.memory import watching_memory
from tests.support.up import Up

MAX_GROWTH_MB = 105
PROCESSES = ("server", "gateway", "worker")
BOUNDARY = "boundary-of-the-test"


def pictures(count: int, side_px: int = 32) -> Iterator[tuple[str, bytes]]:
    """Yields pictures that all differ, as fast as they can be sent."""
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


def finished(up: Up, key: str, batch_id: str) -> Batch:
    with ImageCategorizationClient(key, up.url) as client:
        for batch in client.batches.watch(batch_id):  # noqa: B007 - the last one
            pass
        return batch


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
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
    finished(up, key, upload(up, key, 500))  # loads what is loaded on first use
    processes = {name: up.process_of(name) for name in PROCESSES}
    with watching_memory(**processes) as memory:
        begin_s = time.monotonic()
        batch_id = upload(up, key, count)
        uploaded_s = time.monotonic() - begin_s
        batch = finished(up, key, batch_id)
        all_s = time.monotonic() - begin_s
    growth_mb = {name: round(memory.grown_mb(name)) for name in PROCESSES}
    print(
        f"\n{count} by {way}: uploaded in {uploaded_s:.0f} s ({count / uploaded_s:.0f}/s),"
        f" classified in {all_s:.0f} s ({count / all_s:.0f}/s); growth in MB: {growth_mb}"
    )
    assert (batch.state, batch.succeeded_count) == ("COMPLETED", count)
    assert max(growth_mb.values()) <= MAX_GROWTH_MB, growth_mb
