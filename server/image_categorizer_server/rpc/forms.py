"""Forms whose text fields are fields of a protobuf message.

The kind for files is `multipart/form-data` (RFC 7578).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl

from google.protobuf.message import Message
from image_categorizer.v1.classify_pb2 import ClassifyUploadRequest
from image_categorizer.v1.image_pb2 import UploadImageBodyRequest
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.fields import MAX_SHOWN_NAME_CHARACTERS, Fields
from image_categorizer_server.rpc.filenames import (
    HEADER_CHARSET,
    MAX_HEADER_BYTES,
    file_name,
    has_file_name,
    text_of,
)
from image_categorizer_server.rpc.json_body import (
    BODY,
    decoded_image,
    image_of_text,
    is_data_url,
)

IMAGE_FIELD = "image"
MAX_PARTS = 2100  # two filters of the maximum size, and the other fields
MAX_TEXT_BYTES = 4096
# Requests that keep the name of the file.
NAMED = ClassifyUploadRequest, UploadImageBodyRequest


def is_form(content_type: str) -> bool:
    """Returns whether the content type is that of a form."""
    return content_type.lower().startswith("multipart/form-data")


def form_parser(content_type: str, max_segment_count: float = math.inf) -> PushMultipartParser:
    """Returns a parser of a form whose content type has the boundary between its fields.

    Raises:
        MultipartError: the content type has no boundary.
    """
    return PushMultipartParser(
        str(parse_options_header(content_type)[1].get("boundary", "")),
        max_header_size=MAX_HEADER_BYTES,
        max_segment_count=max_segment_count,
        header_charset=HEADER_CHARSET,
    )


@contextmanager
def invalid_if_malformed() -> Iterator[None]:
    """Converts errors of the form parser.

    Raises:
        InvalidRequest: the form is malformed, or has too many fields.
    """
    try:
        yield
    except ParserLimitReached:
        raise InvalidRequest.of(
            [(BODY, "the form has too many fields, or its headers are too long")]
        ) from None
    except MultipartError as error:
        raise InvalidRequest.of([(BODY, f"the form is malformed: {str(error)[:100]}")]) from None


def read_image_form(content_type: str, body: bytes, request: Message) -> bytes | None:
    """Returns the image in a form; None if there is none.

    Args:
        content_type: contains the boundary.
        body: the form.
        request: receives the other fields, and the name of the file unless they contain one.

    Raises:
        InvalidRequest: the form is malformed, has more than one image, or an invalid field.
    """
    images = []
    fields = Fields(request, (IMAGE_FIELD,))
    for part in _parts(content_type, body):
        if part.name == IMAGE_FIELD:
            images.append(part)
        else:
            set_text(fields, part.name, part.content)
    fields.finish()
    if len(images) > 1:
        text = f"must be in the form exactly once, is in it {len(images)} times"
        raise InvalidRequest.of([(IMAGE_FIELD, text)])
    if not images:
        return None
    if isinstance(request, NAMED) and not request.filename:
        request.filename = images[0].file_name
    return _image_in(images[0])


def read_encoded_form(body: bytes, request: Message) -> bytes | None:
    """Returns the image in a form of the kind `application/x-www-form-urlencoded`, in base64.

    Args:
        body: the form.
        request: receives the other fields.

    Raises:
        InvalidRequest: the form is malformed, has more than one image, or an invalid field.
    """
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_PARTS)
    except ValueError:
        raise InvalidRequest.of([(BODY, "the form is malformed, or has too many fields")]) from None
    images = [text for name, text in pairs if name == IMAGE_FIELD and text]
    fields = Fields(request, (IMAGE_FIELD,))
    for name, text in pairs:
        if name != IMAGE_FIELD:
            set_text(fields, name, text.encode())
    fields.finish()
    if len(images) > 1:
        raise InvalidRequest.of([(IMAGE_FIELD, "must be in the form exactly once")])
    # In such a form `+` is a blank, and few programs write `%2B` for it.
    return image_of_text(images[0].replace(" ", "+"), IMAGE_FIELD) if images else None


def is_encoded_form(content_type: str, body: bytes, request: Message) -> bool:
    """Returns whether a body is a form of the kind `application/x-www-form-urlencoded`.

    curl sends this content type for everything, so the body must begin with the name of a field.
    """
    if not content_type.lower().startswith("application/x-www-form-urlencoded"):
        return False
    name = body[:MAX_SHOWN_NAME_CHARACTERS].partition(b"=")[0].decode("ascii", "replace")
    names = {name for f in request.DESCRIPTOR.fields for name in (f.name, f.json_name)}
    return name in names | {IMAGE_FIELD} and b"=" in body[:MAX_SHOWN_NAME_CHARACTERS]


def set_text(fields: Fields, name: str, content: bytes) -> None:
    """Sets a field from the text of a form.

    Raises:
        InvalidRequest: the text is too long, no UTF-8, or no valid value of the field.
    """
    known = fields.find(name).name
    if len(content) > MAX_TEXT_BYTES:
        raise InvalidRequest.of([(known, f"must have at most {MAX_TEXT_BYTES} bytes")])
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest.of([(known, "must be UTF-8 text")]) from None
    fields.set(name, text)


def _image_in(part: "_Part") -> bytes:
    """Returns the image in a part: a file, or text in base64."""
    if is_data_url(part.content):
        return decoded_image(part.content, IMAGE_FIELD)
    if not part.is_file and part.content.isascii() and part.content.strip():
        try:
            return decoded_image(part.content, IMAGE_FIELD)
        except InvalidRequest:
            return part.content  # what it is instead is said by whoever decodes the image
    return part.content


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    is_file: bool
    file_name: str
    content: bytes


def _parts(content_type: str, body: bytes) -> Iterator[_Part]:
    name, is_file, named, chunks = "", False, "", list[bytes]()
    with (
        invalid_if_malformed(),
        form_parser(content_type, max_segment_count=MAX_PARTS) as parser,
    ):
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                name, is_file, chunks = text_of(event.name), has_file_name(event), []
                named = file_name(event)
            elif event is None:
                yield _Part(name, is_file, named, b"".join(chunks))
            else:
                chunks.append(bytes(event))
