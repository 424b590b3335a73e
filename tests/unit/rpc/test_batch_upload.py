"""Uploads of files in chunks."""

import pytest
from image_categorizer.v1.batch_pb2 import BatchConfig, UploadBatchFile, UploadBatchRequest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.upload import FileStream

from tests.support.forms import ARCHIVES, admitted, archive, stream, taken


def begin(name, chunk=b""):
    return UploadBatchRequest(file=UploadBatchFile(filename=name, chunk=chunk))


def more(chunk):
    return UploadBatchRequest(chunk=chunk)


async def uploaded(*messages):
    files = FileStream(stream(*messages), admitted, ARCHIVES)
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


async def test_a_zip_file_stands_for_the_files_in_it():
    packed = archive(**{"a.jpg": b"A" * 1000, "photos/b.jpg": b"B", "__MACOSX/._a.jpg": b"x"})
    pieces = [more(packed[start : start + 50]) for start in range(0, len(packed), 50)]
    _, files = await uploaded(begin("first", b"1"), begin("photos.ZIP"), *pieces, begin("z", b"2"))
    assert files == [("first", b"1"), ("a.jpg", b"A" * 1000), ("photos/b.jpg", b"B"), ("z", b"2")]


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
        ([begin("a.zip", b"no zip")], "file: a zip file is damaged"),
        ([begin("a"), UploadBatchRequest(config=BatchConfig())], "config: is for the first"),
    ],
)
async def test_a_wrong_upload_is_refused(messages, words):
    with pytest.raises(InvalidRequest, match=words):
        await uploaded(*messages)
