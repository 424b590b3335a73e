"""Wire → domain: the configuration of a batch, and the names of its items."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from image_categorizer.v1 import batch_pb2

from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.errors import BatchNotFound, InvalidRequest
from image_categorizer_server.rpc.options import options_from_wire
from image_categorizer_server.rpc.validation import (
    IDENTIFIER,
    raise_if_any,
    wrong_image_uri,
    wrong_url,
)

MAX_REQUEST_ID_CHARACTERS = 64
MAX_FILENAME_CHARACTERS = 1024
MAX_PRIORITY = 10
# A request may have thousands of invalid items; the status holds no more violations than this.
MAX_VIOLATIONS = 10


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a batch request. All are inclusive."""

    max_items: int
    max_filter_categories: int
    max_url_characters: int
    allow_http: bool
    """Whether URLs may be http."""
    max_page_bytes: int


def batch_config(
    wire: batch_pb2.BatchConfig, limits: BatchLimits, prefix: str = "", options_prefix: str = ""
) -> BatchConfig:
    """Returns a validated configuration.

    Args:
        wire: the configuration.
        limits: of the fields.
        prefix: precedes the configuration's field names in error messages.
        options_prefix: precedes the options' field names.

    Raises:
        InvalidRequest: names every invalid field.
    """
    wrong: list[tuple[str, str]] = []
    options = None
    try:
        options = options_from_wire(
            wire.options, limits.max_filter_categories, options_prefix, is_batch=True
        )
    except InvalidRequest as error:
        wrong.extend(error.violations)
    if options and options.explain:
        wrong.append((f"{options_prefix}explain", "is not supported in batches"))
    url = wire.webhook_url
    schemes = ("https", "http") if limits.allow_http else ("https",)
    if url and (text := wrong_url(url, schemes, limits.max_url_characters)):
        wrong.append((f"{prefix}webhook_url", text))
    if len(wire.request_id) > MAX_REQUEST_ID_CHARACTERS or "\0" in wire.request_id:
        text = f"must have at most {MAX_REQUEST_ID_CHARACTERS} characters and no NUL"
        wrong.append((f"{prefix}request_id", text))
    if abs(wire.priority) > MAX_PRIORITY:
        text = f"must be in [-{MAX_PRIORITY}, {MAX_PRIORITY}], is {wire.priority}"
        wrong.append((f"{prefix}priority", text))
    raise_if_any(wrong)
    assert options is not None
    return BatchConfig(options, url, wire.request_id, wire.priority)


def image_uri(uri: str, limits: BatchLimits) -> str:
    """Returns what is wrong with the URI of an image; empty if it is valid."""
    return wrong_image_uri(uri, limits.max_url_characters, allow_http=limits.allow_http)


def filename(name: str) -> str:
    """Returns what is wrong with the file name of an item; empty if it is valid."""
    if len(name) > MAX_FILENAME_CHARACTERS or "\0" in name:
        return f"must have at most {MAX_FILENAME_CHARACTERS} characters and no NUL"
    return ""


def checked_filename(name: str, field: str) -> str:
    """Returns a valid file name.

    Raises:
        InvalidRequest: it is too long, or contains NUL.
    """
    if text := filename(name):
        raise InvalidRequest.of([(field, text)])
    return name


def name_of(uri: str, number: int) -> str:
    """Returns the name of an item without a file name: the end of its URI, or its number."""
    end = unquote(urlsplit(uri).path).rpartition("/")[2].replace("\0", "")
    return end[:MAX_FILENAME_CHARACTERS] or str(number)


def required_id(batch_id: str) -> str:
    """Returns a well-formed batch id.

    Raises:
        InvalidRequest: it is missing.
        BatchNotFound: it is malformed, so no batch has it.
    """
    if not batch_id:
        raise InvalidRequest.of([("batch_id", "is required")])
    if not IDENTIFIER.fullmatch(batch_id):
        raise BatchNotFound("no such batch")
    return batch_id
