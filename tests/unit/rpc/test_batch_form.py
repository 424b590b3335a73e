"""Forms of files at the edge, and the zip files in them."""

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.batch_pb2 import (
    UploadBatchFormRequest,
)
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch.form import Form

from tests.support.forms import ARCHIVES, admitted, archive, form, part, stream, taken


async def all_of(read):
    await read.config()
    return await taken(read.items())


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_a_form_gives_fields_and_files_however_it_is_cut(size):
    read = form(
        part("model", b"small"),
        part("top_k", b"3"),
        part("include_categories", b"cat"),
        part("include_categories", b"dog"),
        part("priority", b"-2"),
        part("no_cache", b"true"),
        part("images[]", b"\xff\xd8 bytes \r\n--xy", "a.jpg"),
        part("images", b"", "b.jpg"),
        part("images[]", b"c" * 300),
        size=size,
        top_k=3,
        request_id="again",
    )
    config = await read.config()
    assert (config.options.model, config.options.top_k) == ("small", 3)
    assert list(config.options.include_categories) == ["cat", "dog"]
    assert (config.priority, config.request_id, config.options.no_cache) == (-2, "again", True)
    assert await taken(read.items()) == [
        ("a.jpg", b"\xff\xd8 bytes \r\n--xy"),
        ("b.jpg", b""),
        ("2", b"c" * 300),
    ]


async def test_the_unread_rest_of_a_file_is_skipped():
    read = form(part("images", b"a" * 500, "a"), part("images", b"b" * 500, "b"))
    await read.config()
    names = [(name, len(content) < 500) for name, content in await taken(read.items(), most=9)]
    assert names == [("a", True), ("b", True)]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], r"images\[\]: must be in the form at least once"),
        ([part("model", b"m")], r"images\[\]: must be in the form at least once"),
        ([part("picture", b"a", "a")], "picture: is not a field of the form; fields are images"),
        ([part("images", b"a", "a"), part("model", b"m")], "model: must stand before the first"),
        ([part("top_k", b"many"), part("images", b"a")], "top_k: must be a number"),
        ([part("topK", b"1"), part("top_k", b"2"), part("images", b"a")], "top_k: is given twice"),
        ([part("model", b"m" * 5000), part("images", b"a")], "model: must have at most 4096"),
        ([part("images", b"a", "n" * 1025)], "images: must have at most 1024 characters"),
    ],
)
async def test_a_wrong_form_is_refused_by_field(parts, words):
    with pytest.raises(InvalidRequest, match=words):
        await all_of(form(*parts))


async def test_an_incomplete_form_is_refused():
    whole = form(part("images", b"a" * 100, "a"))
    messages = [message async for message in whole._requests]
    broken = Form(stream(*messages[:-5]), admitted, ARCHIVES)
    await broken.config()
    with pytest.raises(InvalidRequest, match="the form is malformed"):
        await taken(broken.items())


@pytest.mark.parametrize("kind", ["", "text/plain", "application/zip"])
async def test_a_body_that_is_no_form_is_refused(kind):
    request = UploadBatchFormRequest(body=HttpBody(content_type=kind, data=b"abc"))
    with pytest.raises(InvalidRequest, match="must be multipart/form-data, or application/json"):
        await Form(stream(request), admitted, ARCHIVES).config()


async def test_zip_files_become_the_files_in_them():
    packed = archive(**{"a.jpg": b"A" * 1000, "photos/b.jpg": b"B", "__MACOSX/._a.jpg": b"x"})
    read = form(
        part("images[]", b"first", "0.jpg"),
        part("images[]", packed, "photos.ZIP"),
        part("images[]", b"last", "1.jpg"),
        size=50,
    )
    await read.config()
    assert await taken(read.items()) == [
        ("0.jpg", b"first"),
        ("a.jpg", b"A" * 1000),
        ("photos/b.jpg", b"B"),
        ("1.jpg", b"last"),
    ]
