"""What travels through the micro-batcher."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.inference.images.preprocess import Input

Prepare = Callable[[], Input]


@dataclass(slots=True, eq=False)
class Request:
    """One image that asks for the model."""

    prepare: Prepare
    """Makes the input; called in a thread."""
    size_bytes: int
    """Of the encoded image."""
    deadline_s: float
    """By `time.monotonic`."""
    lane: Lane = Lane.INTERACTIVE
    tenant_id: str = ""
    with_features: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one image got, and in which company."""

    confidences: NDArray[np.float32]
    """float32 (C,)."""
    features: NDArray[np.float32] | None
    """float32 (K, h, w), where asked for."""
    input: Input
    queue_ms: float
    """Waiting for a decoder and for the micro-batch."""
    inference_ms: float
    batch_size: int
    close_reason: BatchCloseReason


@dataclass(slots=True, eq=False)
class Entry:
    """A request on its way."""

    number: int
    request: Request
    outcome: "asyncio.Future[Outcome]"
    lane: Lane
    tenant_id: str
    deadline_s: float
    arrival_s: float = field(default_factory=time.monotonic)
    input: Input | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the outcome any more."""
        return self.outcome.done()


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch that leaves for the model."""

    entries: list[Entry]
    reason: BatchCloseReason


Settled = list[tuple[Entry, Outcome | Exception]]


def settle(settled: Settled) -> None:
    """Hands outcomes to who still waits for them; runs on the event loop."""
    for entry, outcome in settled:
        if entry.is_abandoned:
            continue
        if isinstance(outcome, Outcome):
            entry.outcome.set_result(outcome)
        else:
            entry.outcome.set_exception(outcome)
