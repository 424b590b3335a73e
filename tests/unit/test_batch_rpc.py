"""Batches at the edge: forms, uploads, zip files, validation, results as files."""

import csv
import io
import json
import zipfile

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.batch_pb2 import (
    BatchConfig,
    CreateBatchRequest,
    UploadBatchFile,
    UploadBatchFormRequest,
    UploadBatchRequest,
)
from image_categorizer.v1.classify_pb2 import ClassifyOptions
from image_categorizer_server.domain import (
    Category,
    ItemError,
    ItemResult,
    ModelRef,
    Prediction,
)
from image_categorizer_server.errors import BatchTooLarge, InvalidRequest
from image_categorizer_server.rpc import convert_batch, export
from image_categorizer_server.rpc.archive import ArchiveLimits, unpacked
from image_categorizer_server.rpc.batch_form import Form
from image_categorizer_server.rpc.batch_upload import FileStream
from image_categorizer_server.rpc.validation_batch import (
    BatchLimits,
    batch_config,
    image_uri,
    name_of,
)

LIMITS = BatchLimits(
    max_items=10, max_filter_categories=3, max_url_characters=100, allow_http=False
)
ARCHIVES = ArchiveLimits(
    max_bytes=2**20,
    max_entries=5,
    max_unpacked_bytes=2**20,
    max_ratio=100,
    max_image_bytes=2**18,
)
BOUNDARY = "xyz"


async def admitted():
    return None


async def stream(*messages):
    for message in messages:
        yield message


async def taken(items, most=None):
    """Reads items as an upload does; at most `most` bytes of each."""
    found = []
    async for item in items:
        content = b""
        async for piece in item.content:
            content += piece
            if most is not None and len(content) >= most:
                break
        found.append((item.filename, content))
    return found


async def all_of(read):
    await read.config()
    return await taken(read.items())


def part(name, content, filename=None, kind=None):
    named = f'; filename="{filename}"' if filename is not None else ""
    typed = f"content-type: {kind}\r\n" if kind else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{typed}\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts, size=7, **query):
    """Returns the form of some parts, whose body comes in pieces of `size` bytes."""
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    first = UploadBatchFormRequest(body=HttpBody(content_type=kind, data=body[:size]), **query)
    rest = [
        UploadBatchFormRequest(body=HttpBody(data=body[start : start + size]))
        for start in range(size, len(body), size)
    ]
    return Form(stream(first, *rest), admitted, ARCHIVES)


def archive(**entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_a_form_gives_fields_and_files_however_it_is_cut(size):
    read = form(
        part("model", b"starter"),
        part("top_k", b"3"),
        part("include_categories", b"cat"),
        part("include_categories", b"dog"),
        part("priority", b"-2"),
        part("images[]", b"\xff\xd8 bytes \r\n--xy", "a.jpg"),
        part("images", b"", "b.jpg"),
        part("images[]", b"c" * 300),
        size=size,
        model="query",
        request_id="again",
    )
    config = await read.config()
    assert (config.options.model, config.options.top_k) == ("starter", 3)
    assert list(config.options.include_categories) == ["cat", "dog"]
    assert (config.priority, config.request_id) == (-2, "again")
    assert await taken(read.items()) == [
        ("a.jpg", b"\xff\xd8 bytes \r\n--xy"),
        ("b.jpg", b""),
        ("2", b"c" * 300),
    ]


async def test_what_nobody_reads_of_a_file_is_passed_over():
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
        ([part("model", b"m" * 5000), part("images", b"a")], "model: must have at most 4096"),
        ([part("images", b"a", "n" * 1025)], "images: must have at most 1024 characters"),
    ],
)
async def test_a_wrong_form_is_refused_by_field(parts, words):
    with pytest.raises(InvalidRequest, match=words):
        await all_of(form(*parts))


async def test_a_form_that_breaks_off_is_refused():
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


async def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr("image_categorizer_server.rpc.archive.HARMLESS_BYTES", 1000)
    bomb = archive(a=b"\0" * 2**18)
    with pytest.raises(BatchTooLarge, match="would unpack to more bytes"):
        await unzip(bomb)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../../b.jpg", "C:a.jpg", "..\\a.jpg"])
async def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(InvalidRequest, match="leads elsewhere"):
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


GOOD = ItemResult(
    0,
    'a "b", c.jpg',
    (Prediction(Category("cat", "n02121620", ("mammal",)), 0.75, (1, 2, 3, 4)),),
    ModelRef("starter", 1, "sha256:0"),
    None,
)
EMPTY = ItemResult(1, "=1+1.jpg", (), ModelRef("starter", 1, "sha256:0"), None)
BAD = ItemResult(
    2, "zürich.jpg", (), None, ItemError("INVALID_ARGUMENT", "IMAGE_UNDECODABLE", "it is no image")
)


async def exported(name, *results):
    form = export.file_format(name)
    return b"".join([piece async for piece in export.pieces(stream(*results), form)]).decode()


@pytest.mark.parametrize("name", ["", "jsonl"])
async def test_results_as_json_lines(name):
    lines = (await exported(name, GOOD, EMPTY, BAD)).splitlines()
    good, empty, bad = map(json.loads, lines)
    assert set(good) == set(export.COLUMNS)
    assert (good["item_id"], good["filename"], good["category"]) == ("0", 'a "b", c.jpg', "cat")
    assert good["predictions"][0]["bounding_box"] == [1, 2, 3, 4]
    assert (empty["category"], empty["predictions"], empty["error_reason"]) == (None, [], None)
    assert (bad["filename"], bad["error_reason"]) == ("zürich.jpg", "IMAGE_UNDECODABLE")


async def test_results_as_csv():
    text = await exported("csv", GOOD, EMPTY, BAD)
    good, empty, bad = csv.DictReader(io.StringIO(text))
    assert (good["filename"], good["category"], good["confidence"]) == (
        'a "b", c.jpg',
        "cat",
        "0.75",
    )
    assert json.loads(good["predictions"])[0]["category_id"] == "n02121620"
    assert (empty["category"], empty["error_reason"]) == ("", "")
    assert bad["error_reason"] == "IMAGE_UNDECODABLE"
    assert text.startswith("item_id,filename,category,confidence,predictions,error_reason\r\n")


async def test_an_export_of_nothing_is_an_empty_file_all_the_same():
    form = export.file_format("jsonl")
    assert [piece async for piece in export.pieces(stream(), form)] == [b""]
    assert (await exported("csv")).count("\r\n") == 1


async def test_large_exports_come_in_pieces():
    form = export.file_format("jsonl")
    found = [piece async for piece in export.pieces(stream(*[GOOD] * 1000), form)]
    assert len(found) > 2
    assert b"".join(found).count(b"\n") == 1000


def test_an_unknown_format_is_refused():
    with pytest.raises(InvalidRequest, match="format: must be jsonl or csv"):
        export.file_format("xlsx")


def test_results_carry_code_0_or_the_reason():
    good, bad = convert_batch.result(GOOD), convert_batch.result(BAD)
    assert (good.status.code, good.classification.predictions[0].category) == (0, "cat")
    assert (bad.item_id, bad.status.code, bad.status.message) == ("2", 3, "it is no image")
    assert b"IMAGE_UNDECODABLE" in bad.status.details[0].value
    assert not bad.HasField("classification")
