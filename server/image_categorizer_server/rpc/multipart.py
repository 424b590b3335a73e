"""Reads `multipart/form-data` (RFC 7578): one image, and options as fields."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

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
TEXT_FIELDS = frozenset({"model", "version"})
NUMBER_FIELDS = {"confidence_threshold": float, "top_k": int}
LIST_FIELDS = frozenset({"include_categories", "exclude_categories"})
SWITCH_FIELDS = frozenset({"bounding_boxes", "explain", "no_cache"})
OPTION_FIELDS = TEXT_FIELDS | LIST_FIELDS | SWITCH_FIELDS | set(NUMBER_FIELDS)
SWITCHES = {"true": True, "false": False}
MOST_PARTS = 2100  # two filters of the most names, and some
MOST_TEXT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """One field of the form."""

    name: str
    content: bytes


def is_form(content_type: str) -> bool:
    """Returns whether the body is a form."""
    return content_type.lower().startswith("multipart/form-data")


def read_form(content_type: str, body: bytes, request: classify_pb2.ClassifyUploadRequest) -> bytes:
    """Returns the image; fields that are options replace those of the same name in `request`.

    Raises:
        InvalidRequest: expected; the form is malformed, has no image or two, or an unknown field.
    """
    images = []
    cleared: set[str] = set()
    for part in _parts(content_type, body):
        if part.name == IMAGE_FIELD:
            images.append(part.content)
        elif part.name in OPTION_FIELDS:
            if part.name not in cleared:
                cast("Any", request).ClearField(part.name)
                cleared.add(part.name)
            _set_option(request, part)
        else:
            known = ", ".join([IMAGE_FIELD, *sorted(OPTION_FIELDS)])
            raise InvalidRequest.of(
                [(part.name[:64], f"is not a field of the form; fields are {known}")]
            )
    if len(images) != 1:
        raise InvalidRequest.of(
            [(IMAGE_FIELD, f"must be in the form once, is {len(images)} times")]
        )
    return images[0]


def _set_option(request: classify_pb2.ClassifyUploadRequest, part: Part) -> None:
    if len(part.content) > MOST_TEXT_BYTES:
        raise InvalidRequest.of([(part.name, f"must have at most {MOST_TEXT_BYTES} bytes")])
    try:
        text = part.content.decode()
        if part.name in SWITCH_FIELDS:
            setattr(request, part.name, _switch(text))
        elif part.name in LIST_FIELDS:
            getattr(request, part.name).append(text)
        else:
            setattr(request, part.name, NUMBER_FIELDS.get(part.name, str)(text))
    except ValueError:
        kinds = dict.fromkeys(NUMBER_FIELDS, "a number") | dict.fromkeys(
            SWITCH_FIELDS, "true or false"
        )
        kind = kinds.get(part.name, "UTF-8 text")
        raise InvalidRequest.of([(part.name, f"must be {kind}")]) from None


def _switch(text: str) -> bool:
    if text not in SWITCHES:
        raise ValueError(text)
    return SWITCHES[text]


def _parts(content_type: str, body: bytes) -> Iterator[Part]:
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    name, chunks = "", list[bytes]()
    try:
        with PushMultipartParser(
            boundary, max_segment_size=len(body), max_segment_count=MOST_PARTS
        ) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    name, chunks = event.name, []
                elif event is None:
                    yield Part(name, b"".join(chunks))
                else:
                    chunks.append(bytes(event))
    except ParserLimitReached:
        raise InvalidRequest.of(
            [("body", f"the form has more than {MOST_PARTS} fields, or headers too long")]
        ) from None
    except MultipartError as error:
        raise InvalidRequest.of([("body", f"the form is malformed: {str(error)[:100]}")]) from None
