"""The result cache: the same bytes, model and options of one tenant are classified once.

    result:<tenant>:<slot>   {"fingerprint": "…", "predictions": […], "timing": {…}}

A tenant has `max_entries` slots.  The fingerprint of a query, a hash of everything that its answer
depends on, selects the slot; a new answer replaces an older one in the same slot.  This limits the
memory, however Redis is configured to evict.  Categories are stored by position and named by the
model that is asked.  Tenants share no entries: the response time reveals nothing about the images
of another tenant.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Protocol
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_categorizer_server.domain.classification import (
    Box,
    CacheStatus,
    Category,
    Classification,
    ClassifyOptions,
    Digests,
    ImageWarning,
    ModelRef,
    Neighbour,
    Prediction,
    Source,
    Timing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.version import VERSION

log = get_log(__name__)
# Increase it when the same query may get another answer within one release.
FORMAT = 6


class Store(Protocol):
    """A key-value store.  Calls raise DependencyDown if it does not answer in time."""

    async def get(self, key: str) -> bytes | None:
        """Returns the value of a key."""
        ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Stores a value, which expires after `ttl_s` seconds."""
        ...


@dataclass(frozen=True)
class Query:
    """Everything that an answer depends on, and its tenant."""

    tenant_id: str
    image_sha256: str
    model: ModelRef
    categories: tuple[Category, ...]
    """The model's: `CategoryTree.categories`."""
    positions: Mapping[str, int]
    """Position of each name in `categories`."""
    runtime: str
    """Runtime, device and precision: each answers slightly differently."""
    digests: Digests
    options: ClassifyOptions
    """With the model's defaults."""
    corrections: str
    """What the tenant has taught: `Examples.revision` and `Head.fingerprint`."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything but the tenant."""
        options = self.options
        parts = [
            FORMAT,
            VERSION,
            self.image_sha256,
            self.model.digest,
            self.runtime,
            *astuple(self.digests),
            options.confidence_threshold,
            options.top_k,
            sorted(set(options.include_categories)),
            sorted(set(options.exclude_categories)),
            options.bounding_boxes,
            options.roll_up,
            options.raw_confidence,
            self.corrections,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Prediction(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    position: int | None = Field(None, ge=0)
    own_category: str = ""
    """The name of a category that the model lacks."""
    confidence: float = Field(ge=0, le=1)
    bounding_boxes: tuple[Box, ...] = ()
    raw_confidence: float | None = Field(None, ge=0, le=1)
    source: Source = Source.MODEL


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    predictions: list[_Prediction]
    timing: Timing
    warnings: tuple[ImageWarning, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


class ResultCache:
    """Stores classifications and finds them again."""

    def __init__(self, store: Store, settings: CacheSettings) -> None:
        self._store = store
        self._settings = settings

    async def find(self, query: Query) -> Classification | None:
        """Returns the cached answer as a HIT; None if there is none that can be read.

        Raises:
            DependencyDown: the store does not answer.
        """
        value = await self._store.get(self._key(query))
        if value is None:
            return None
        try:
            entry = _Entry.model_validate_json(value)
            if entry.fingerprint != query.fingerprint:
                return None
            predictions = [
                Prediction(
                    Category(p.own_category)
                    if p.position is None
                    else query.categories[p.position],
                    p.confidence,
                    p.bounding_boxes,
                    p.raw_confidence,
                    p.source,
                )
                for p in entry.predictions
            ]
        except (ValidationError, IndexError):
            log.warning("a cached answer cannot be read", key=self._key(query))
            return None
        return Classification(
            predictions,
            query.model,
            entry.timing,
            cache=CacheStatus.HIT,
            warnings=entry.warnings,
            digests=query.digests,
            options=query.options,
            neighbours=entry.neighbours,
        )

    async def put(self, query: Query, answer: Classification) -> bool:
        """Stores an answer; returns False if it is too large or the store does not answer."""
        entry = _Entry(
            fingerprint=query.fingerprint,
            predictions=[
                _Prediction(
                    position=query.positions.get(p.category.name),
                    own_category="" if p.category.name in query.positions else p.category.name,
                    confidence=p.confidence,
                    bounding_boxes=p.bounding_boxes,
                    raw_confidence=p.raw_confidence,
                    source=p.source,
                )
                for p in answer.predictions
            ],
            timing=answer.timing,
            warnings=answer.warnings,
            neighbours=answer.neighbours,
        )
        value = entry.model_dump_json(exclude_defaults=True).encode()
        if len(value) > self._settings.max_value_bytes:
            return False
        try:
            await self._store.put(self._key(query), value, self._settings.ttl_s)
        except DependencyDown:
            return False
        return True

    def _key(self, query: Query) -> str:
        slot = int(query.fingerprint[:16], 16) % self._settings.max_entries
        return f"{entries_of(query.tenant_id)}{slot}"


def entries_of(tenant_id: str) -> str:
    """Returns what the keys of a tenant's entries begin with."""
    return f"result:{quote(tenant_id, safe='')}:"
