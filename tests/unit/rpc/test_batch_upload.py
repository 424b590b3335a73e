"""Uploads of files in chunks."""

import pytest
from image_categorizer.v1.batch_pb2 import BatchConfig, UploadBatchFile, UploadBatchRequest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.upload import FileStream

from tests.support.forms import admitted, stream, taken


def begin(name, chunk=b""):
    return UploadBatchRequest(file=UploadBatchFile(filename=name, chunk=chunk))


def more(chunk):
    return UploadBatchRequest(chunk=chunk)


async def uploaded(*messages):
    files = FileStream(stream(*messages), admitted)
    config = await files.config()
    return config, await taken(files.items())


async def test_an_upload_is_files_in_pieces():
    config, files = await uploaded(
        UploadBatchRequest(config=BatchConfig(priority=3)),
        begin("a", b"1"),
        more(b"2"),
        more(b"3"),
        begin("b"),
        begin("c", b"4"),
    )
    assert config.priority == 3
    assert files == [("a", b"123"), ("b", b""), ("c", b"4")]


async def test_the_configuration_may_be_left_out():
    config, files = await uploaded(begin("a", b"1"), more(b"2"))
    assert (config, files) == (BatchConfig(), [("a", b"12")])


async def test_an_upload_without_files_has_none():
    assert await uploaded(UploadBatchRequest(config=BatchConfig())) == (BatchConfig(), [])


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "file: is required"),
        ([more(b"1")], "file: is required before chunks"),
        ([UploadBatchRequest()], "file: is required before chunks"),
        ([begin("")], "file.filename: is required"),
        ([begin("n" * 1025)], "file.filename: must have at most 1024"),
        ([begin("a\0b")], "file.filename: .*NUL"),
        ([begin("a"), UploadBatchRequest(config=BatchConfig())], "config: is for the first"),
    ],
)
async def test_a_wrong_upload_is_refused(messages, words):
    with pytest.raises(InvalidRequest, match=words):
        await uploaded(*messages)
