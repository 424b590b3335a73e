"""Wire → domain: how a batch is run, and what its items are called."""

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.errors import BatchNotFound, InvalidRequest
from image_categorizer_server.rpc.validation import (
    IDENTIFIER,
    Options,
    classify_options,
    raise_if_any,
)

MOST_REQUEST_ID_CHARACTERS = 64
MOST_FILENAME_CHARACTERS = 1024
MOST_PRIORITY = 10
IMAGE_SCHEMES = ("https", "s3", "gs", "az")
# Violations of a request with thousands of items; more would be cut off on the wire.
MOST_VIOLATIONS = 10


class Config(Protocol):
    """The fields of a batch's configuration, which three messages share by name."""

    @property
    def webhook_url(self) -> str: ...  # noqa: D102 - see the protos
    @property
    def request_id(self) -> str: ...  # noqa: D102
    @property
    def priority(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch's request may hold; all inclusive."""

    max_items: int
    max_filter_categories: int
    max_url_characters: int
    allow_http: bool
    """Whether addresses may be http, too."""


def batch_config(
    wire: Config, options: Options, limits: BatchLimits, prefix: str = "", options_prefix: str = ""
) -> BatchConfig:
    """Returns how a batch is run, checked.

    Args:
        wire: the message that holds the configuration.
        options: the message that holds the options, which may be the same one.
        limits: what the fields may measure.
        prefix: what stands before the configuration's names in the caller's request.
        options_prefix: what stands before the options' names.

    Raises:
        InvalidRequest: names every field that is wrong.
    """
    wrong: list[tuple[str, str]] = []
    checked = None
    try:
        checked = classify_options(options, limits.max_filter_categories, options_prefix)
    except InvalidRequest as error:
        wrong.extend(error.violations)
    if checked and checked.explain:
        wrong.append((f"{options_prefix}explain", "is not for batches, which keep no heat maps"))
    url = wire.webhook_url
    if url and (text := _wrong_url(url, _web_schemes(limits), limits.max_url_characters)):
        wrong.append((f"{prefix}webhook_url", text))
    if len(wire.request_id) > MOST_REQUEST_ID_CHARACTERS or "\0" in wire.request_id:
        text = f"must have at most {MOST_REQUEST_ID_CHARACTERS} characters, NUL not among them"
        wrong.append((f"{prefix}request_id", text))
    if abs(wire.priority) > MOST_PRIORITY:
        text = f"must be in [-{MOST_PRIORITY}, {MOST_PRIORITY}], is {wire.priority}"
        wrong.append((f"{prefix}priority", text))
    raise_if_any(wrong)
    assert checked is not None
    return BatchConfig(checked, url, wire.request_id, wire.priority)


def image_uri(uri: str, limits: BatchLimits) -> str:
    """Returns what is wrong with the address of an image; empty where nothing is."""
    schemes = (*IMAGE_SCHEMES, "http") if limits.allow_http else IMAGE_SCHEMES
    return _wrong_url(uri, schemes, limits.max_url_characters)


def filename(name: str) -> str:
    """Returns what is wrong with the name of an item; empty where nothing is."""
    if len(name) > MOST_FILENAME_CHARACTERS or "\0" in name:
        return f"must have at most {MOST_FILENAME_CHARACTERS} characters, NUL not among them"
    return ""


def checked_filename(name: str, field: str) -> str:
    """Returns the name of an item.

    Raises:
        InvalidRequest: it is too long.
    """
    if text := filename(name):
        raise InvalidRequest.of([(field, text)])
    return name


def name_of(uri: str, number: int) -> str:
    """Returns what an item is called that was not given a name."""
    end = unquote(urlsplit(uri).path).rpartition("/")[2].replace("\0", "")
    return end[:MOST_FILENAME_CHARACTERS] or str(number)


def required_id(batch_id: str) -> str:
    """Returns the name of a batch.

    Raises:
        InvalidRequest: it is missing.
        BatchNotFound: no batch has ever had such a name.
    """
    if not batch_id:
        raise InvalidRequest.of([("batch_id", "is required")])
    if not IDENTIFIER.fullmatch(batch_id):
        raise BatchNotFound("no such batch")
    return batch_id


def _web_schemes(limits: BatchLimits) -> tuple[str, ...]:
    return ("https", "http") if limits.allow_http else ("https",)


def _wrong_url(url: str, schemes: tuple[str, ...], max_characters: int) -> str:
    if len(url) > max_characters:
        return f"must have at most {max_characters} characters"
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname)
    except ValueError:
        return "is not a URL"
    if parts.scheme not in schemes or not has_host or not url.isprintable() or " " in url:
        return f"must be a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"
    return ""
