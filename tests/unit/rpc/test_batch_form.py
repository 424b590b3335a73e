"""Forms of files at the edge, and the zip files in them."""

import os
import resource

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.batch_pb2 import (
    UploadBatchFormRequest,
)
from image_categorizer_server.errors import BatchTooLarge, DependencyDown, InvalidRequest
from image_categorizer_server.rpc.batch.archive import ArchiveLimits, unpacked
from image_categorizer_server.rpc.batch.form import Form

from tests.support.forms import ARCHIVES, admitted, archive, form, part, stream, taken


async def all_of(read):
    await read.config()
    return await taken(read.items())


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_a_form_gives_fields_and_files_however_it_is_cut(size):
    read = form(
        part("model", b"starter"),
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
    assert (config.options.model, config.options.top_k) == ("starter", 3)
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


async def unzip(content, **limits):
    fields = {name: getattr(ARCHIVES, name) for name in ARCHIVES.__slots__}
    return await taken(unpacked(stream(content), ArchiveLimits(**{**fields, **limits})))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_bytes": 100}, "more than 100 bytes"),
        ({"max_entries": 2}, "more than 2 files"),
        ({"max_unpacked_bytes": 1000}, "would unpack to more bytes"),
    ],
)
async def test_a_zip_file_that_is_or_becomes_too_large_is_refused(limits, words):
    packed = archive(a=b"a" * 900, b=b"b" * 900, c=b"c" * 900)
    with pytest.raises(BatchTooLarge, match=words):
        await unzip(packed, **limits)


async def test_a_full_disk_is_a_dependency_that_is_down():
    packed = archive(a=os.urandom(2**17))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(DependencyDown, match="cannot store"):
            await unzip(packed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(await unzip(packed)) == 1


async def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr("image_categorizer_server.rpc.batch.archive.ANY_RATIO_BYTES", 1000)
    bomb = archive(a=b"\0" * 2**18)
    with pytest.raises(BatchTooLarge, match="would unpack to more bytes"):
        await unzip(bomb)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../../b.jpg", "C:a.jpg", "..\\a.jpg"])
async def test_names_that_point_outside_are_refused(name):
    with pytest.raises(InvalidRequest, match="points outside"):
        await unzip(archive(**{name: b"a"}))


async def test_an_encrypted_zip_file_is_refused():
    packed = bytearray(archive(a=b"a" * 50))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(mark) + offset] |= 1
    with pytest.raises(InvalidRequest, match="encrypted"):
        await unzip(bytes(packed))


@pytest.mark.parametrize("cut", [0, 1, 10, 30, 60])
async def test_a_damaged_zip_file_is_refused(cut):
    packed = archive(a=bytes(range(256)))
    with pytest.raises(InvalidRequest, match="a zip file is damaged"):
        await unzip(packed[: len(packed) - cut] if cut else b"no zip file")


async def test_every_flipped_byte_of_a_zip_file_is_survived():
    packed = archive(**{"a.jpg": b"A" * 40, "b.jpg": b"B" * 40})
    for position in range(len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 0xFF
        try:
            await unzip(bytes(damaged))
        except InvalidRequest:
            continue
