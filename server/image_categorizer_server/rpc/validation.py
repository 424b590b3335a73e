"""Checks of request fields.

Every check appends what is wrong to a list, so that one error names all violations (AIP-193).
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from image_categorizer_server.errors import ImageNotFound, InvalidRequest
from image_categorizer_server.inference.models.aliases import ALIAS, CANARY

MAX_NAME_CHARACTERS = 256
IMAGE_SCHEMES = ("https", "s3", "gs", "az")
MAX_VERSION_DIGITS = 9
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Identifiers that the server creates. PostgreSQL refuses some others, such as those with NUL."""


def version_or_alias(text: str, wrong: list[tuple[str, str]]) -> int | str | None:
    """Returns a version number or an alias; None if `text` is empty."""
    if not text:
        return None
    if ALIAS.fullmatch(text):
        return text
    if _is_number(text):
        return int(text)
    wrong.append(("version", "must be a number from 1 up, an alias such as stable, or empty"))
    return None


def version_number(text: str, wrong: list[tuple[str, str]]) -> int | None:
    """Returns a version number; None if `text` is empty."""
    if not text:
        return None
    if _is_number(text):
        return int(text)
    wrong.append(("version", "must be a number from 1 up, or empty"))
    return None


def required(field: str, value: str, wrong: list[tuple[str, str]]) -> None:
    """Checks that a name is present and not too long."""
    if not 1 <= len(value) <= MAX_NAME_CHARACTERS:
        wrong.append((field, f"is required and has at most {MAX_NAME_CHARACTERS} characters"))


def alias_name(text: str, wrong: list[tuple[str, str]]) -> str:
    """Returns the name of an alias."""
    if not ALIAS.fullmatch(text):
        wrong.append(
            (
                "alias",
                "must be 1 to 32 lower-case letters, digits and hyphens, starting with a letter",
            )
        )
    return text


def canary_percent(alias: str, percent: float, wrong: list[tuple[str, str]]) -> float:
    """Returns the share of requests for the canary, in percent."""
    if not 0 <= percent <= 100:
        wrong.append(("canary_percent", f"must be in [0, 100], is {percent:g}"))
    elif percent and alias != CANARY:
        wrong.append(("canary_percent", f"requires the alias {CANARY}"))
    return percent


def wrong_image_uri(uri: str, max_characters: int, *, allow_http: bool) -> str:
    """Returns what is wrong with the URI of an image; empty if it is valid."""
    schemes = (*IMAGE_SCHEMES, "http") if allow_http else IMAGE_SCHEMES
    return wrong_url(uri, schemes, max_characters)


def wrong_url(url: str, schemes: Sequence[str], max_characters: int) -> str:
    """Returns what is wrong with a URL; empty if it is valid."""
    if len(url) > max_characters:
        return f"must have at most {max_characters} characters"
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname)
    except ValueError:
        return "is not a URL"
    if parts.scheme not in schemes or not has_host or not url.isprintable() or " " in url:
        return f"must be a URL that starts with {' or '.join(f'{s}://' for s in schemes)}"
    return ""


def raise_if_any(wrong: Sequence[tuple[str, str]], prefix: str = "") -> None:
    """Passes an empty list.

    Raises:
        InvalidRequest: names every field in the list, each after `prefix`.
    """
    if wrong:
        raise InvalidRequest.of([(f"{prefix}{field}", text) for field, text in wrong])


def _is_number(text: str) -> bool:
    digits = text.isascii() and text.isdecimal() and len(text) <= MAX_VERSION_DIGITS
    return digits and int(text) > 0


def image_id_of(text: str) -> str:
    """Returns the id of an image that a request names.

    Raises:
        InvalidRequest: it is missing.
        ImageNotFound: no image has such an id.
    """
    wrong: list[tuple[str, str]] = []
    required("image_id", text, wrong)
    raise_if_any(wrong)
    if not IDENTIFIER.fullmatch(text):
        raise ImageNotFound("no such image")
    return text
