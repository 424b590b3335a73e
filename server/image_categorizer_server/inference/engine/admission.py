"""Refuses at the door what could not be answered in time, or would not fit."""

from dataclasses import dataclass

from image_categorizer_server.domain.classification import Lane
from image_categorizer_server.errors import DeadlineUnreachable, Overloaded

LEAST_RETRY_S = 0.1
# A tenant may fill its lane until it holds so many times what is left free (dynamic thresholds:
# Choudhury & Hahne 1998): one alone gets 8 of 9 parts, and there is room for who comes then.
MOST_OF_FREE = 8


@dataclass(frozen=True, slots=True)
class Load:
    """What a new image meets."""

    images: int
    """All images of the model between arrival and answer."""
    content_bytes: int
    """Their encoded bytes."""
    own_images: int = 0
    """Of them, those of the new one's lane and tenant."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that may wait for one model."""

    max_queued: int
    max_queued_bytes: int
    lane_queued_share: float
    """Of both, what lane BATCH may fill: room is kept for INTERACTIVE."""


def check_room(bounds: Bounds, load: Load, lane: Lane, size_bytes: int, interval_s: float) -> None:
    """Passes an image for which there is room.

    Args:
        bounds: the most that may wait.
        load: what waits.
        lane: the image's own.
        size_bytes: its encoded bytes.
        interval_s: between two answers, now.

    Raises:
        Overloaded: it would be one too many.
    """
    share = bounds.lane_queued_share if lane is Lane.BATCH else 1.0
    free = max(1, int(bounds.max_queued * share)) - load.images
    # Callers of INTERACTIVE come and go by themselves; BATCH is sent as fast as it is taken.
    full = free <= 0 or (lane is Lane.BATCH and load.own_images >= MOST_OF_FREE * free)
    heavy = load.images and load.content_bytes + size_bytes > bounds.max_queued_bytes * share
    if full or heavy:
        retry_after_s = max(LEAST_RETRY_S, load.images * interval_s / 2)
        raise Overloaded("too many images are waiting for this model", round(retry_after_s, 2))


def check_deadline(remaining_s: float, needed_s: float) -> None:
    """Passes an image that can be answered in time.

    Args:
        remaining_s: until its deadline.
        needed_s: for all that goes before it, and itself.

    Raises:
        DeadlineUnreachable: it cannot.
    """
    if needed_s > remaining_s:
        retry_after_s = max(LEAST_RETRY_S, needed_s - remaining_s)
        raise DeadlineUnreachable(
            f"the answer would take {needed_s:.2g} s and the deadline is in {remaining_s:.2g} s",
            round(retry_after_s, 2),
        )
