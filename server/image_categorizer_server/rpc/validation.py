"""Wire → domain: options of a request, every violation named at once (AIP-193)."""

import re
from collections.abc import Sequence
from typing import Literal, Protocol

from image_categorizer_server.domain.classification import DEFAULT_TOP_K, ClassifyOptions
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.inference.models.aliases import ALIAS, CANARY

MOST_NAME_CHARACTERS = 256
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names that we make; PostgreSQL refuses some of the others, such as those with a NUL."""
MOST_VERSION_DIGITS = 9


class Options(Protocol):
    """The option fields, which ClassifyOptions and ClassifyUploadRequest share by name."""

    @property
    def model(self) -> str: ...  # noqa: D102 - see the protos
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def confidence_threshold(self) -> float: ...  # noqa: D102
    @property
    def top_k(self) -> int: ...  # noqa: D102
    @property
    def include_categories(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def exclude_categories(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def bounding_boxes(self) -> bool: ...  # noqa: D102
    @property
    def explain(self) -> bool: ...  # noqa: D102
    @property
    def no_cache(self) -> bool: ...  # noqa: D102
    def HasField(self, field_name: Literal["top_k"], /) -> bool: ...  # noqa: D102


def classify_options(
    wire: Options, max_filter_categories: int, prefix: str = ""
) -> ClassifyOptions:
    """Returns the options, checked.

    Args:
        wire: the message that holds the option fields.
        max_filter_categories: most names in one filter.
        prefix: what stands before the field names in the caller's request, such as `options.`.

    Raises:
        InvalidRequest: names every field that is wrong.
    """
    wrong: list[tuple[str, str]] = []
    if len(wire.model) > MOST_NAME_CHARACTERS:
        wrong.append(("model", f"must have at most {MOST_NAME_CHARACTERS} characters"))
    version = version_or_alias(wire.version, wrong)
    threshold = wire.confidence_threshold
    if not 0 <= threshold <= 1:
        wrong.append(("confidence_threshold", f"must be in [0, 1], is {threshold:g}"))
    top_k = wire.top_k if wire.HasField("top_k") else DEFAULT_TOP_K
    if top_k < 1:
        wrong.append(("top_k", f"must be at least 1, is {top_k}"))
    for field in ("include_categories", "exclude_categories"):
        _check_filter(field, getattr(wire, field), max_filter_categories, wrong)
    raise_if_any(wrong, prefix)
    return ClassifyOptions(
        model=wire.model,
        version=version,
        confidence_threshold=threshold,
        top_k=top_k,
        include_categories=tuple(wire.include_categories),
        exclude_categories=tuple(wire.exclude_categories),
        bounding_boxes=wire.bounding_boxes,
        explain=wire.explain,
        no_cache=wire.no_cache,
    )


def _check_filter(
    field: str, names: Sequence[str], most: int, wrong: list[tuple[str, str]]
) -> None:
    if len(names) > most:
        wrong.append((field, f"must hold at most {most} names, holds {len(names)}"))
    elif any(not 1 <= len(name) <= MOST_NAME_CHARACTERS for name in names):
        wrong.append((field, f"must hold names of 1 to {MOST_NAME_CHARACTERS} characters"))


def version_or_alias(text: str, wrong: list[tuple[str, str]]) -> int | str | None:
    """Returns a version's number or alias, None where empty; notes what is wrong with it."""
    if not text:
        return None
    if ALIAS.fullmatch(text):
        return text
    if _is_number(text):
        return int(text)
    wrong.append(("version", "must be a number from 1 on, an alias such as stable, or empty"))
    return None


def version_number(text: str, wrong: list[tuple[str, str]]) -> int | None:
    """Returns a version's number, None where empty; notes what is wrong with it."""
    if not text:
        return None
    if _is_number(text):
        return int(text)
    wrong.append(("version", "must be a number from 1 on, or empty"))
    return None


def required(field: str, value: str, wrong: list[tuple[str, str]]) -> None:
    """Notes a text that is missing or too long."""
    if not 1 <= len(value) <= MOST_NAME_CHARACTERS:
        wrong.append((field, f"is required, and has at most {MOST_NAME_CHARACTERS} characters"))


def alias_name(text: str, wrong: list[tuple[str, str]]) -> str:
    """Returns the alias; notes what is wrong with it."""
    if not ALIAS.fullmatch(text):
        wrong.append(
            ("alias", "must be 1 to 32 lower-case letters, digits and hyphens, the first a letter")
        )
    return text


def canary_percent(alias: str, percent: float, wrong: list[tuple[str, str]]) -> float:
    """Returns the canary's share in percent; notes what is wrong with it."""
    if not 0 <= percent <= 100:
        wrong.append(("canary_percent", f"must be in [0, 100], is {percent:g}"))
    elif percent and alias != CANARY:
        wrong.append(("canary_percent", f"is for the alias {CANARY} only"))
    return percent


def _is_number(text: str) -> bool:
    digits = text.isascii() and text.isdecimal() and len(text) <= MOST_VERSION_DIGITS
    return digits and int(text) > 0


def raise_if_any(wrong: Sequence[tuple[str, str]], prefix: str = "") -> None:
    """Raises InvalidRequest where something is wrong."""
    if wrong:
        raise InvalidRequest.of([(f"{prefix}{field}", text) for field, text in wrong])
