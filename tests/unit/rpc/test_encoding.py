"""Bodies compressed by gzip."""

import gzip
import os
import resource

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.batch_pb2 import UploadBatchFormRequest
from image_categorizer_server.errors import BatchTooLarge, ImageTooLarge, InvalidRequest
from image_categorizer_server.rpc.call import Call, current_call
from image_categorizer_server.rpc.encoding import unpacked, unpacked_messages

CONTENT = os.urandom(3000) + bytes(600_000)
MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def call():
    """Binds a call."""
    token = current_call.set(Call("test"))
    yield current_call.get()
    current_call.reset(token)


async def by_messages(*pieces, max_ratio=10_000, free_bytes=0):
    async def messages():
        for piece in pieces:
            yield UploadBatchFormRequest(body=HttpBody(data=piece))

    found = b""
    async for message in unpacked_messages(messages(), max_ratio, free_bytes):
        found += message.body.data
    return found


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
async def test_a_body_is_unpacked_however_it_is_cut(size):
    packed = gzip.compress(CONTENT)
    pieces = [packed[i : i + size] for i in range(0, len(packed), size)]
    assert await by_messages(*pieces) == CONTENT == unpacked(packed, len(CONTENT))


async def test_a_body_may_have_several_members():
    packed = gzip.compress(CONTENT[:5000]) + gzip.compress(CONTENT[5000:])
    assert unpacked(packed, len(CONTENT)) == CONTENT == await by_messages(packed[:99], packed[99:])


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (CONTENT, "is not gzip, or is damaged"),
        (gzip.compress(CONTENT)[:-1], "ends before its gzip data do"),
        (gzip.compress(CONTENT)[:-8] + b"checksum", "is not gzip, or is damaged"),
        (gzip.compress(CONTENT) + b"more", "is not gzip, or is damaged"),
    ],
)
async def test_a_damaged_body_is_refused(packed, text):
    with pytest.raises(InvalidRequest, match=text):
        unpacked(packed, len(CONTENT))
    with pytest.raises(InvalidRequest, match=text):
        await by_messages(packed)


def test_a_body_that_becomes_too_large_is_refused_in_bounded_memory(call):
    bomb = gzip.compress(bytes(256 * MEBIBYTE))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLarge, match="more than 1048576 bytes when it is unpacked"):
        unpacked(bomb, MEBIBYTE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 32 * 1024
    assert call.http_status == 413


async def test_a_stream_that_grows_too_much_is_refused(call):
    bomb = gzip.compress(bytes(16 * MEBIBYTE))
    with pytest.raises(BatchTooLarge, match="more than 100 times as large"):
        await by_messages(bomb, max_ratio=100, free_bytes=MEBIBYTE)
    assert call.http_status == 413
    small = gzip.compress(bytes(MEBIBYTE))
    assert await by_messages(small, max_ratio=100, free_bytes=MEBIBYTE) == bytes(MEBIBYTE)
