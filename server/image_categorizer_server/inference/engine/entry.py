"""One image in the micro-batcher: its request, its place in a micro-batch, its outcome."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import BatchCloseReason, Lane
from image_categorizer_server.inference.engine.queues import LaneQueue
from image_categorizer_server.inference.images.localize import Located
from image_categorizer_server.inference.images.preprocess import Input

if TYPE_CHECKING:
    from image_categorizer_server.telemetry.otlp import Span

Prepare = Callable[[], Input]
Locate = Callable[["Outcome"], Located]
Charge = Callable[[float], None]
MAX_HELD = 16
"""Maximum number of outcomes that wait for delivery."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One image to classify."""

    prepare: Prepare
    """Makes the input; called in a thread."""
    size_bytes: int
    """Memory to count while it is in the micro-batcher: the encoded image, and what is kept of it
    for `locate`."""
    deadline_s: float
    """On the clock of `time.monotonic`."""
    lane: Lane = Lane.INTERACTIVE
    tenant_id: str = ""
    with_features: bool = False
    keeps_features: bool = False
    """Whether they are returned beside what `locate` makes of them."""
    with_whole: bool = False
    """Whether `prepare` makes an input with the whole picture too."""
    locate: Locate | None = None
    """Makes boxes and the heat map of the answer; called in a thread.  Where the input has a whole
    picture, the network sees that first."""
    span: "Span | None" = None
    """Of its call, if that is recorded in a trace."""
    charge: Charge | None = None
    """Takes the milliseconds of the model that fall to this image; called in a thread, for images
    that fail or are abandoned meanwhile, too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The model's answer for one image, and the micro-batch that it was in."""

    confidences: NDArray[np.float32]
    """float32 (C,)."""
    features: NDArray[np.float32] | None
    """float32 (K, h, w) if the request asks for features."""
    input: Input
    """What the network has seen."""
    queue_ms: float
    """Time spent waiting for a decoder and for the micro-batch."""
    inference_ms: float
    batch_size: int
    """Number of images in the micro-batch."""
    close_reason: BatchCloseReason
    whole_features: NDArray[np.float32] | None = None
    """float32 (K, h, w) of the whole picture, once the network has seen it."""
    located: Located | None = None
    """What `Request.locate` has made."""
    raw_confidences: NDArray[np.float32] | None = None
    """float32 (C,), before the temperature; None if the model has none."""


@dataclass(slots=True, eq=False)
class Entry:
    """A request in the queues."""

    number: int
    request: Request
    outcome: "asyncio.Future[Outcome]"
    lane: Lane
    tenant_id: str
    deadline_s: float
    arrival_s: float = field(default_factory=time.monotonic)
    input: Input | None = None
    """Set once the image is decoded."""
    answer: Outcome | None = None
    """Set once the model has answered, if the request asks for more."""
    queue: "LaneQueue[Entry] | None" = None
    """Where it waits; None while a thread works on it. The micro-batcher's lock guards it."""
    is_over: bool = False
    """Whether no thread works on it any more, and none will."""
    when_over: Callable[[], None] | None = None
    """Called on the event loop when it is over, if its caller has left before."""

    @property
    def is_unseen(self) -> bool:
        """Whether the model has answered, but is still to see the whole picture."""
        return (
            self.answer is not None
            and self.answer.input.whole is not None
            and self.answer.whole_features is None
        )

    @property
    def is_abandoned(self) -> bool:
        """Whether the caller no longer waits."""
        return self.outcome.done()


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The images of one model call."""

    entries: list[Entry]
    reason: BatchCloseReason


Result = tuple[Entry, Outcome | Exception]


def deliver(results: Sequence[Result]) -> None:
    """Passes results to the callers that still wait; call it on the event loop."""
    for entry, outcome in results:
        entry.is_over = True
        if entry.is_abandoned:
            if entry.when_over:
                entry.when_over()
            continue
        if isinstance(outcome, Outcome):
            entry.outcome.set_result(outcome)
        else:
            entry.outcome.set_exception(outcome)


class Delivery:
    """Passes results to the event loop, under load those of several micro-batches at a time.

    A thread that wakes up between two model calls finds its caches cold.  With both cores busy, the
    event loop and 32 clients needed three times the cycles per answer that they need on an idle
    machine.  While more images wait than the runners can take, no caller gains from an answer a few
    milliseconds earlier, so results are held and delivered together.  Measured: 0.91 of the raw
    limit instead of 0.83.

    Not thread-safe: the micro-batcher's lock guards it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hold_s: float) -> None:
        """Starts empty.

        Args:
            loop: delivers the results.
            hold_s: maximum time that a result is held.
        """
        self._loop = loop
        self._hold_s = hold_s
        self._held: list[Result] = []
        self._since_s = 0.0

    def add(self, results: Sequence[Result], *, is_busy: bool, next_s: float) -> None:
        """Delivers results, or holds them until the next ones arrive.

        Args:
            results: those of one micro-batch.
            is_busy: whether enough images wait to keep all runners busy.
            next_s: expected time until the next micro-batch is done.
        """
        now_s = time.monotonic()
        if not self._held:
            self._since_s = now_s
        self._held += results
        urgent_s = min(entry.deadline_s for entry, _ in self._held)
        is_late = now_s + next_s > min(self._since_s + self._hold_s, urgent_s)
        if is_late or not is_busy or len(self._held) >= MAX_HELD:
            self.flush()

    def flush_late(self) -> float:
        """Delivers results that are held as long as they may be; returns when to look again.

        Returns:
            Seconds.
        """
        remaining_s = self._since_s + self._hold_s - time.monotonic() if self._held else 0.0
        if remaining_s > 0:
            return remaining_s
        self.flush()
        return self._hold_s

    def flush(self) -> None:
        """Delivers all held results."""
        if self._held:
            held, self._held = self._held, []
            self._loop.call_soon_threadsafe(deliver, held)
