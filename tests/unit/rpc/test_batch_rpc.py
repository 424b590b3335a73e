"""Batches at the edge: uploads in pieces, and what a configuration may hold."""

import pytest
from image_categorizer.v1.batch_pb2 import (
    BatchConfig,
    CreateBatchRequest,
    UploadBatchFile,
    UploadBatchRequest,
)
from image_categorizer.v1.classify_pb2 import ClassifyOptions
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.upload import FileStream
from image_categorizer_server.rpc.batch.validation import (
    BatchLimits,
    batch_config,
    image_uri,
    name_of,
)

from tests.support.forms import admitted, stream, taken

LIMITS = BatchLimits(
    max_items=10, max_filter_categories=3, max_url_characters=100, allow_http=False
)


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


def test_every_wrong_field_of_a_configuration_is_named():
    request = CreateBatchRequest(
        options=ClassifyOptions(top_k=0, confidence_threshold=2),
        webhook_url="http://example.com",
        request_id="r" * 65,
        priority=11,
    )
    with pytest.raises(InvalidRequest) as caught:
        batch_config(request, request.options, LIMITS, options_prefix="options.")
    assert [field for field, _ in caught.value.violations] == [
        "options.confidence_threshold",
        "options.top_k",
        "webhook_url",
        "request_id",
        "priority",
    ]


def test_heat_maps_are_not_for_batches():
    config = BatchConfig(options=ClassifyOptions(explain=True))
    with pytest.raises(InvalidRequest, match="config.options.explain: is not for batches"):
        batch_config(config, config.options, LIMITS, "config.", "config.options.")


@pytest.mark.parametrize(
    ("uri", "is_right"),
    [
        ("https://example.com/a.jpg", True),
        ("s3://bucket/a.jpg", True),
        ("gs://bucket/a.jpg", True),
        ("az://container/a.jpg", True),
        ("http://example.com/a.jpg", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https:///a", False),
        ("https://[::1", False),
        ("https://example.com/a b", False),
        ("https://example.com/a\n", False),
        ("https://example.com/" + "a" * 100, False),
        ("", False),
    ],
)
def test_images_come_by_known_schemes_only(uri, is_right):
    assert (image_uri(uri, LIMITS) == "") is is_right


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://example.com/photos/a%20b.jpg?size=3", "a b.jpg"),
        ("s3://bucket/photos/", "7"),
        ("https://example.com", "7"),
    ],
)
def test_an_item_without_a_name_is_called_by_the_end_of_its_address(uri, name):
    assert name_of(uri, 7) == name
