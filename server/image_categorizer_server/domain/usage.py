"""Values about usage: what tenants have used, by day, key and model."""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Self


class UsageGroup(Enum):
    """By what usage is summed up."""

    DAY = "day"
    KEY = "key"
    MODEL = "model"


@dataclass(frozen=True, slots=True, order=True)
class UsageKey:
    """To whom and to what usage is attributed."""

    tenant_id: str
    day: date
    """In UTC."""
    key_id: str
    """The API key, or the user."""
    model: str
    """The name of the model; empty for images that were refused before a model was asked."""


@dataclass(slots=True)
class Usage:
    """What was used."""

    images: int = 0
    """All images that were answered, with a classification or with an error about the image."""
    cached_images: int = 0
    """Those of them that the result cache answered."""
    failed: int = 0
    """Those of them that have an error."""
    bytes: int = 0
    """Size of the encoded images."""
    model_ms: float = 0.0
    """Milliseconds of the model: each image has an equal share of its micro-batch."""

    def __iadd__(self, other: "Usage") -> Self:
        self.images += other.images
        self.cached_images += other.cached_images
        self.failed += other.failed
        self.bytes += other.bytes
        self.model_ms += other.model_ms
        return self


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The usage of one group."""

    day: date | None
    """None unless usage is summed up by day; so are the other two."""
    key_id: str | None
    model: str | None
    usage: Usage
