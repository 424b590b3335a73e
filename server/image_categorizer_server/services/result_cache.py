"""Remembers answers: the very same bytes, model and options of one tenant need no second look.

    result:<tenant>:<place>   {"fingerprint": "…", "predictions": […], "timing": {…}}

A tenant has `max_entries` places.  The fingerprint, over all that the answer follows from, says
which of them an answer goes to, and a newer answer takes an older one's place: so the memory is
bounded whatever Redis does when it is full.  Categories are kept by position and named by the model
that is asked, so a taxonomy may change.  Tenants share nothing: how fast an answer comes tells
nobody what another has asked.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_categorizer_server.domain.classification import (
    CacheStatus,
    Category,
    Classification,
    ClassifyOptions,
    ModelRef,
    Prediction,
    Timing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.version import VERSION

log = get_log(__name__)
# Raise it when the same image may get another answer than before within one release.
FORMAT = 1


class Store(Protocol):
    """Where answers are kept; each call raises DependencyDown where it cannot be had in time."""

    async def get(self, key: str) -> bytes | None:
        """Returns what is kept under the key."""
        ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keeps a value for some seconds."""
        ...


@dataclass(frozen=True)
class Question:
    """All that an answer follows from, and whose it is."""

    tenant_id: str
    image_sha256: str
    model: ModelRef
    categories: tuple[Category, ...]
    """The model's, in the order of the network's outputs."""
    positions: Mapping[str, int]
    """Where in `categories` each name is."""
    runtime: str
    """What runs the model, and in which precision: each answers a little differently."""
    options: ClassifyOptions

    @cached_property
    def fingerprint(self) -> str:
        """A hash over everything but whose it is."""
        options = self.options
        parts = [
            FORMAT,
            VERSION,
            self.image_sha256,
            self.model.digest,
            self.runtime,
            options.confidence_threshold,
            options.top_k,
            sorted(set(options.include_categories)),
            sorted(set(options.exclude_categories)),
            options.bounding_boxes,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Prediction(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    position: int = Field(ge=0)
    confidence: float = Field(ge=0, le=1)
    bounding_box: tuple[int, int, int, int] | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    predictions: list[_Prediction]
    timing: Timing


class ResultCache:
    """Finds and remembers classifications."""

    def __init__(self, store: Store, settings: CacheSettings) -> None:
        self._store = store
        self._settings = settings

    async def find(self, question: Question) -> Classification | None:
        """Returns the answer where it is remembered, as a HIT.

        What cannot be read counts as not remembered.

        Raises:
            DependencyDown: nothing is remembered at present.
        """
        value = await self._store.get(self._key(question))
        if value is None:
            return None
        try:
            entry = _Entry.model_validate_json(value)
            if entry.fingerprint != question.fingerprint:
                return None
            predictions = [
                Prediction(question.categories[p.position], p.confidence, p.bounding_box)
                for p in entry.predictions
            ]
        except (ValidationError, IndexError):
            log.warning("a remembered answer cannot be read", key=self._key(question))
            return None
        return Classification(predictions, question.model, entry.timing, cache=CacheStatus.HIT)

    async def remember(self, question: Question, answer: Classification) -> bool:
        """Keeps an answer; returns whether it is kept: not where it is too large or Redis fails."""
        entry = _Entry(
            fingerprint=question.fingerprint,
            predictions=[
                _Prediction(
                    position=question.positions[p.category.name],
                    confidence=p.confidence,
                    bounding_box=p.bounding_box,
                )
                for p in answer.predictions
            ],
            timing=answer.timing,
        )
        value = entry.model_dump_json(exclude_defaults=True).encode()
        if len(value) > self._settings.max_value_bytes:
            return False
        try:
            await self._store.put(self._key(question), value, self._settings.ttl_s)
        except DependencyDown:
            return False
        return True

    def _key(self, question: Question) -> str:
        place = int(question.fingerprint[:16], 16) % self._settings.max_entries
        return f"result:{quote(question.tenant_id, safe='')}:{place}"
