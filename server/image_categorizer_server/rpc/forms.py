"""Forms (`multipart/form-data`, RFC 7578) whose text fields are fields of a protobuf message."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from image_categorizer.v1 import classify_pb2
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from image_categorizer_server.errors import InvalidRequest

IMAGE_FIELD = "image"
BODY = "body"
MAX_PARTS = 2100  # two filters of the maximum size, and the other fields
MAX_TEXT_BYTES = 4096
MAX_SHOWN_NAME_CHARACTERS = 64
BOOLEANS = {"true": True, "false": False}
NUMBERS = {FieldDescriptor.TYPE_FLOAT: float, FieldDescriptor.TYPE_INT32: int}


def is_form(content_type: str) -> bool:
    """Returns whether the content type is that of a form."""
    return content_type.lower().startswith("multipart/form-data")


def boundary_of(content_type: str) -> str:
    """Returns the boundary between the fields; empty if the content type has none."""
    return str(parse_options_header(content_type)[1].get("boundary", ""))


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


def read_image_form(
    content_type: str, body: bytes, request: classify_pb2.ClassifyUploadRequest
) -> bytes:
    """Returns the image in a form.

    Args:
        content_type: contains the boundary.
        body: the form.
        request: receives the other fields, which replace fields of the same name.

    Raises:
        InvalidRequest: the form is malformed, does not have exactly one image, or has an unknown
            field.
    """
    images = []
    fields = FormFields(request, (IMAGE_FIELD,))
    for part in _parts(content_type, body):
        if part.name == IMAGE_FIELD:
            images.append(part.content)
        else:
            fields.set(part.name, part.content)
    if len(images) != 1:
        text = f"must be in the form exactly once, is in it {len(images)} times"
        raise InvalidRequest.of([(IMAGE_FIELD, text)])
    return images[0]


class FormFields:
    """Sets fields of a message from text fields of a form; the descriptor gives their types."""

    def __init__(self, request: Message, files: tuple[str, ...]) -> None:
        """Prepares to set fields.

        Args:
            request: the message. The form may have all its fields except `body`.
            files: names of the fields that hold files, for error messages.
        """
        self._request = request
        self._files = files
        self._fields: dict[str, FieldDescriptor] = {
            field.name: field  # type: ignore[misc]  # the stubs name the C class, too
            for field in request.DESCRIPTOR.fields
            if field.name != BODY
        }
        self._cleared: set[str] = set()

    def check_name(self, name: str) -> None:
        """Passes the name of a text field.

        Raises:
            InvalidRequest: the message has no such field.
        """
        if name not in self._fields:
            known = ", ".join([*self._files, *sorted(self._fields)])
            text = f"is not a field of the form; fields are {known}"
            raise InvalidRequest.of([(name[:MAX_SHOWN_NAME_CHARACTERS], text)])

    def set(self, name: str, content: bytes) -> None:
        """Sets a field. The first value replaces the one in the message; more are appended.

        Raises:
            InvalidRequest: the message has no such field, or the value has the wrong type.
        """
        self.check_name(name)
        if len(content) > MAX_TEXT_BYTES:
            raise InvalidRequest.of([(name, f"must have at most {MAX_TEXT_BYTES} bytes")])
        if name not in self._cleared:
            self._request.ClearField(name)
            self._cleared.add(name)
        field = self._fields[name]
        try:
            text = content.decode()
            if field.is_repeated:
                getattr(self._request, name).append(text)
            else:
                setattr(self._request, name, _value(field, text))
        except ValueError:
            raise InvalidRequest.of([(name, f"must be {_expected(field)}")]) from None


def _value(field: FieldDescriptor, text: str) -> str | float | bool:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in BOOLEANS:
            raise ValueError(text)
        return BOOLEANS[text]
    return NUMBERS[field.type](text) if field.type in NUMBERS else text


def _expected(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true or false"
    return "a number" if field.type in NUMBERS else "UTF-8 text"


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    content: bytes


def _parts(content_type: str, body: bytes) -> Iterator[_Part]:
    name, chunks = "", list[bytes]()
    with (
        invalid_if_malformed(),
        PushMultipartParser(
            boundary_of(content_type), max_segment_size=len(body), max_segment_count=MAX_PARTS
        ) as parser,
    ):
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                name, chunks = event.name, []
            elif event is None:
                yield _Part(name, b"".join(chunks))
            else:
                chunks.append(bytes(event))
