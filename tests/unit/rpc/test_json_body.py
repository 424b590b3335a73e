"""JSON bodies, and images that are text."""

import base64
import json

import pytest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.json_body import image_of_text, is_json, read_json

# Its base64 has both characters that the alphabets disagree about, and padding.
IMAGE = b"\xfb\xff\xfe\xd8 image"
TEXT = base64.b64encode(IMAGE).decode()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("application/json-lines", False),
        ("application/x-ndjson", False),
        ("image/jpeg; a=+json", False),
        ("", False),
    ],
)
def test_json_is_recognised_by_its_content_type(content_type, expected):
    assert is_json(content_type) is expected


def test_json_may_begin_with_a_byte_order_mark():
    assert read_json(b"\xef\xbb\xbf" + b'{"a": "\xc3\xa9"}') == {"a": "\u00e9"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (json.dumps({"a": 1}).encode("utf-16"), "the JSON must be encoded in UTF-8"),
        (json.dumps({"a": 1}).encode("utf-16-le"), "the JSON must be encoded in UTF-8"),
        (json.dumps({"a": 1}).encode("utf-32"), "the JSON must be encoded in UTF-8"),
        (b'{"a": "\xff"}', "the JSON must be encoded in UTF-8"),
        (b'{"a": \n' + b"x" * 5000, "is not JSON: Expecting value, line 2, column 1"),
        (b"", "is not JSON: Expecting value, line 1, column 1"),
        (b"[" * 100_000, "is not JSON that can be read"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON that can be read"),
        (b'{"a": 1, "a": 1}', "has an object in which a name is given twice"),
        (b'{"a": [{"b": 1, "c": 2, "b": 3}]}', "has an object in which a name is given twice"),
        (b"[1]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_other_bodies_are_refused_without_being_repeated(body, text):
    with pytest.raises(InvalidRequest) as caught:
        read_json(body)
    assert caught.value.violations == [("body", text)]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        TEXT.replace("+", "-").replace("/", "_"),
        TEXT.replace("+", "-").replace("/", "_").rstrip("="),
        "\r\n".join(TEXT[i : i + 4] for i in range(0, len(TEXT), 4)) + "\n",
        f" \t{TEXT} ",
        f"data:image/jpeg;base64,{TEXT}",
        f"DATA:image/jpeg;charset=utf-8;BASE64,{TEXT}",
        f"data:;base64,{TEXT.rstrip('=')}",
        "data:image/jpeg;base64,"
        + TEXT.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D"),
    ],
)
def test_base64_is_read_in_every_common_form(text):
    assert image_of_text(text, "image") == IMAGE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A", "is not base64"),
        ("AAAA" + "!" * 5000, "is not base64"),
        ("=", ""),
        ("data:image/jpeg," + "x" * 5000, "must be in base64: data:image/jpeg;base64,..."),
        ("\u00e9", "must be text: the image in base64"),
        (7, "must be text: the image in base64"),
    ],
)
def test_other_text_is_refused_without_being_repeated(text, words):
    if not words:
        assert image_of_text(text, "image") == b""
        return
    with pytest.raises(InvalidRequest) as caught:
        image_of_text(text, "image")
    assert caught.value.violations == [("image", words)]
