"""Admission control: refuses images that would be late, or for which there is no capacity."""

from dataclasses import dataclass

from image_categorizer_server.domain.classification import Lane
from image_categorizer_server.errors import DeadlineUnreachable, Overloaded

MIN_RETRY_S = 0.1
# Dynamic thresholds (Choudhury & Hahne 1998): a tenant may hold up to this many times the capacity
# that is still free.  A single tenant gets 8 of 9 parts, and a second one still finds capacity.
TENANT_TIMES_FREE = 8


@dataclass(frozen=True, slots=True)
class Load:
    """The images of one model between arrival and answer."""

    images: int
    content_bytes: int
    """Size of the encoded images."""
    own_images: int = 0
    """Number of images in the lane and of the tenant of the new one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The capacity of one model's queues."""

    max_queued: int
    max_queued_bytes: int
    lane_queued_share: float
    """Share of both that lane BATCH may fill; the rest is kept for INTERACTIVE."""


def check_capacity(
    bounds: Bounds, load: Load, lane: Lane, size_bytes: int, interval_s: float
) -> None:
    """Passes an image if there is capacity for it.

    Args:
        bounds: the capacity.
        load: the images in the queues.
        lane: the image's lane.
        size_bytes: size of the encoded image.
        interval_s: current time between two answers.

    Raises:
        Overloaded: there is no capacity.
    """
    share = bounds.lane_queued_share if lane is Lane.BATCH else 1.0
    free = max(1, int(bounds.max_queued * share)) - load.images
    # Callers in INTERACTIVE are independent; BATCH is sent as fast as it is accepted, so it alone
    # needs fairness among tenants.
    is_full = free <= 0 or (lane is Lane.BATCH and load.own_images >= TENANT_TIMES_FREE * free)
    # A single image larger than the bound is accepted while nothing else waits.
    is_heavy = load.images and load.content_bytes + size_bytes > bounds.max_queued_bytes * share
    if is_full or is_heavy:
        retry_after_s = max(MIN_RETRY_S, load.images * interval_s / 2)
        raise Overloaded("too many images are waiting for this model", round(retry_after_s, 2))


def check_deadline(remaining_s: float, needed_s: float) -> None:
    """Passes an image that can be answered in time.

    Args:
        remaining_s: time until its deadline.
        needed_s: time for all images before it, and for itself.

    Raises:
        DeadlineUnreachable: the answer would be late.
    """
    if needed_s > remaining_s:
        retry_after_s = max(MIN_RETRY_S, needed_s - remaining_s)
        raise DeadlineUnreachable(
            f"the answer would take {needed_s:.2g} s and the deadline is in {remaining_s:.2g} s",
            round(retry_after_s, 2),
        )
