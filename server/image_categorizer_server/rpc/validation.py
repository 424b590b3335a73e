"""Wire → domain: options of a request, every violation named at once (AIP-193)."""

from collections.abc import Sequence
from typing import Literal, Protocol

from image_categorizer_server.domain import DEFAULT_TOP_K, ClassifyOptions
from image_categorizer_server.errors import InvalidRequest

MOST_NAME_CHARACTERS = 256
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
        InvalidRequest: expected; names every field that is wrong.
    """
    wrong: list[tuple[str, str]] = []
    if len(wire.model) > MOST_NAME_CHARACTERS:
        wrong.append(("model", f"must have at most {MOST_NAME_CHARACTERS} characters"))
    version = version_number(wire.version, wrong)
    threshold = wire.confidence_threshold
    if not 0 <= threshold <= 1:
        wrong.append(("confidence_threshold", f"must be in [0, 1], is {threshold:g}"))
    top_k = wire.top_k if wire.HasField("top_k") else DEFAULT_TOP_K
    if top_k < 1:
        wrong.append(("top_k", f"must be at least 1, is {top_k}"))
    for field in ("include_categories", "exclude_categories"):
        names: Sequence[str] = getattr(wire, field)
        if len(names) > max_filter_categories:
            wrong.append(
                (field, f"must hold at most {max_filter_categories} names, holds {len(names)}")
            )
        elif any(not 1 <= len(name) <= MOST_NAME_CHARACTERS for name in names):
            wrong.append((field, f"must hold names of 1 to {MOST_NAME_CHARACTERS} characters"))
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


def version_number(text: str, wrong: list[tuple[str, str]]) -> int | None:
    """Returns the number of a model version, None for the newest; notes what is wrong with it."""
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= MOST_VERSION_DIGITS and int(text) > 0:
        return int(text)
    wrong.append(("version", "must be a number from 1 on, or empty for the newest"))
    return None


def raise_if_any(wrong: Sequence[tuple[str, str]], prefix: str = "") -> None:
    """Raises InvalidRequest where something is wrong."""
    if wrong:
        raise InvalidRequest.of([(f"{prefix}{field}", text) for field, text in wrong])
