"""Reads JSON bodies, and images that are text: base64, or `data:` URLs."""

import base64
import binascii
import json
import re
from urllib.parse import unquote_to_bytes

from image_categorizer_server.errors import InvalidRequest

JSON_TYPE = re.compile(r"\s*(application/json|[^;]*\+json)\s*(;|$)", re.IGNORECASE)
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
DATA_URL = re.compile(rb"data:([^,]{0,200}),", re.IGNORECASE)
URL_SAFE = bytes.maketrans(b"-_", b"+/")
BLANKS = b" \t\r\n"
BODY = "body"


def is_json(content_type: str) -> bool:
    """Returns whether the content type is that of JSON."""
    return JSON_TYPE.match(content_type) is not None


def read_json(body: bytes) -> dict[str, object]:
    """Returns the object that a body contains.

    Raises:
        InvalidRequest: the body is not JSON in UTF-8, or no object, or one in it has a name twice.
    """
    if body.startswith(UTF16_MARKS) or b"\0" in body[:4]:
        raise InvalidRequest.of([(BODY, "the JSON must be encoded in UTF-8")])
    try:
        found = json.loads(body.removeprefix(UTF8_MARK).decode(), object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise InvalidRequest.of([(BODY, "the JSON must be encoded in UTF-8")]) from None
    except json.JSONDecodeError as error:
        text = f"is not JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        raise InvalidRequest.of([(BODY, text)]) from None
    except (RecursionError, ValueError):  # nested too deeply, or a number with too many digits
        raise InvalidRequest.of([(BODY, "is not JSON that can be read")]) from None
    if not isinstance(found, dict):
        raise InvalidRequest.of([(BODY, "must be a JSON object")])
    return found


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns an object.

    Raises:
        InvalidRequest: it has a name twice. Programs differ in which of them counts.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRequest.of([(BODY, "has an object in which a name is given twice")])
    return found


def image_of_text(text: object, field: str) -> bytes:
    """Returns the image that a text contains: base64, or a `data:` URL with base64.

    Both alphabets of base64 are read. Padding may be missing, and lines may be broken.

    Args:
        text: from JSON.
        field: its name, for error messages.

    Raises:
        InvalidRequest: the text is not base64.
    """
    if not isinstance(text, str) or not text.isascii():
        raise InvalidRequest.of([(field, "must be text: the image in base64")])
    return decoded_image(text.encode(), field)


def decoded_image(text: bytes, field: str) -> bytes:
    """Returns the image in a text, as `image_of_text` does.

    Raises:
        InvalidRequest: the text is not base64.
    """
    text = text.strip()
    if url := DATA_URL.match(text):
        if not url[1].lower().rstrip().endswith(b"base64"):
            raise InvalidRequest.of([(field, "must be in base64: data:image/jpeg;base64,...")])
        text = text[url.end() :]
        if b"%" in text:
            text = unquote_to_bytes(text)
    digits = text.translate(URL_SAFE, BLANKS).rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise InvalidRequest.of([(field, "is not base64")]) from None


def is_data_url(content: bytes) -> bool:
    """Returns whether a content is a `data:` URL. No image file begins like one."""
    return DATA_URL.match(content) is not None
