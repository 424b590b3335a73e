"""Reads `multipart/form-data` (RFC 7578): one image, and options as fields."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from image_categorizer.v1 import classify_pb2
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.form_fields import FormFields

IMAGE_FIELD = "image"
MOST_PARTS = 2100  # two filters of the most names, and some


@dataclass(frozen=True, slots=True)
class Part:
    """One field of the form."""

    name: str
    content: bytes


def is_form(content_type: str) -> bool:
    """Returns whether the body is a form."""
    return content_type.lower().startswith("multipart/form-data")


def boundary_of(content_type: str) -> str:
    """Returns what separates the fields; empty where the content type does not tell."""
    return str(parse_options_header(content_type)[1].get("boundary", ""))


def read_form(content_type: str, body: bytes, request: classify_pb2.ClassifyUploadRequest) -> bytes:
    """Returns the image; fields that are options replace those of the same name in `request`.

    Raises:
        InvalidRequest: the form is malformed, has no image or two, or an unknown field.
    """
    images = []
    fields = FormFields(request, (IMAGE_FIELD,))
    for part in _parts(content_type, body):
        if part.name == IMAGE_FIELD:
            images.append(part.content)
        else:
            fields.set(part.name, part.content)
    if len(images) != 1:
        raise InvalidRequest.of(
            [(IMAGE_FIELD, f"must be in the form once, is {len(images)} times")]
        )
    return images[0]


@contextmanager
def malformed_is_refused() -> Iterator[None]:
    """Turns what the parser raises into what the caller may be told.

    Raises:
        InvalidRequest: the form is malformed, or has too many fields.
    """
    try:
        yield
    except ParserLimitReached:
        raise InvalidRequest.of(
            [("body", "the form has too many fields, or headers too long")]
        ) from None
    except MultipartError as error:
        raise InvalidRequest.of([("body", f"the form is malformed: {str(error)[:100]}")]) from None


def _parts(content_type: str, body: bytes) -> Iterator[Part]:
    name, chunks = "", list[bytes]()
    with (
        malformed_is_refused(),
        PushMultipartParser(
            boundary_of(content_type), max_segment_size=len(body), max_segment_count=MOST_PARTS
        ) as parser,
    ):
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                name, chunks = event.name, []
            elif event is None:
                yield Part(name, b"".join(chunks))
            else:
                chunks.append(bytes(event))
