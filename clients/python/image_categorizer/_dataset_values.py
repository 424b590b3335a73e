"""What the client says about labelled sets and images that look alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


class DatasetOptions(TypedDict, total=False):
    """What `client.images.export` exports, and how it is split."""

    include_unreviewed: bool
    """Also what nobody has judged, with the first prediction as the category."""
    validation_percent: int
    """The share for validation."""
    test_percent: int
    """The share for the test; the rest is for training. With 0 of both nothing is split."""
    seed: str
    """Another seed splits otherwise."""
    model: str
    """The model of the newest result, in any version."""
    tags: Iterable[str]
    """All of these, at most 8."""
    start_time: datetime
    """Stored then or later; with a time zone."""
    end_time: datetime
    """Stored before; with a time zone."""


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Stored images that look alike."""

    image_count: int
    image_ids: tuple[str, ...]
    """At most 1000."""
