"""Estimates of the time of a model call and of the service rate, for admission and deadlines."""

import bisect
import math
import time
from collections.abc import Mapping

# Weight of a new observation.
SMOOTHING = 0.1
# The learned slowdown expires after this time without a call.  Otherwise, after a stall, every
# deadline could look unreachable, and no call would be admitted that could correct the estimate.
FORGET_S = 5.0
# Limits one observation: a machine that stood still has not become slow.
MAX_JUMP = 4.0
# After this many images an old observation of the rate has a third of its weight.
RATE_MEMORY_IMAGES = 64
# A size is efficient if an image costs at most this many times its cost in the largest one.
EFFICIENT = 1.1


class LatencyTable:
    """Seconds of a model call by micro-batch size: measured at warm-up, then corrected by calls."""

    def __init__(self, measured_s: Mapping[int, float]) -> None:
        """Takes the measured seconds by size, at least one; other sizes are interpolated."""
        self._sizes = sorted(measured_s)
        self._seconds = [measured_s[size] for size in self._sizes]
        self._slowdown = 1.0
        self._learned_s = -math.inf

    @property
    def measured_s(self) -> dict[int, float]:
        """The seconds by size that the warm-up has measured."""
        return dict(zip(self._sizes, self._seconds, strict=True))

    def estimate_s(self, size: int) -> float:
        """Returns the expected seconds of a call with `size` images."""
        is_stale = time.monotonic() - self._learned_s > FORGET_S
        return self._tabled_s(size) * (1.0 if is_stale else self._slowdown)

    def largest_within(self, seconds: float, max_size: int) -> int:
        """Returns the largest size up to `max_size` whose call fits into `seconds`, at least 1."""
        if self.estimate_s(max_size) <= seconds:
            return max_size
        sizes = range(1, max_size + 1)
        return max(1, bisect.bisect_right(sizes, seconds, key=self.estimate_s))

    def smallest_efficient(self, max_size: int) -> int:
        """Returns the smallest size whose cost per image is about that of `max_size`."""
        limit_s = EFFICIENT * self._tabled_s(max_size) / max_size
        sizes = range(1, max_size)
        return next((n for n in sizes if self._tabled_s(n) / n <= limit_s), max_size)

    def observe(self, size: int, seconds: float) -> None:
        """Learns from one call: other load on the machine slows all sizes alike."""
        ratio = seconds / self._tabled_s(size)
        self._slowdown += SMOOTHING * (min(ratio, MAX_JUMP * self._slowdown) - self._slowdown)
        self._learned_s = time.monotonic()

    def _tabled_s(self, size: int) -> float:
        sizes, seconds = self._sizes, self._seconds
        right = bisect.bisect_left(sizes, size)
        if right < len(sizes) and sizes[right] == size:
            return seconds[right]
        if right == 0:
            return seconds[0]
        if right == len(sizes):  # beyond the table: proportional
            return seconds[-1] * size / sizes[-1]
        share = (size - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
        return seconds[right - 1] + share * (seconds[right] - seconds[right - 1])


class Average:
    """The average of recent times, in seconds; 0 before the first."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Learns from one time."""
        weight = SMOOTHING if self.seconds else 1.0
        self.seconds += weight * (seconds - self.seconds)


class ServiceRate:
    """Seconds between two answers while images wait."""

    def __init__(self, interval_s: float) -> None:
        """Starts from a guess for an otherwise idle machine."""
        self.interval_s = interval_s
        self._last_s: float | None = None

    def observe(self, images: int, now_s: float, *, more_wait: bool) -> None:
        """Learns from images that were just answered.

        Args:
            images: their number, at least 1.
            now_s: the current time.
            more_wait: whether more images wait; only then does the time to the next answer count.
        """
        if self._last_s is not None:
            sample_s = min((now_s - self._last_s) / images, MAX_JUMP * self.interval_s)
            weight = 1 - math.exp(-images / RATE_MEMORY_IMAGES)
            self.interval_s += weight * (sample_s - self.interval_s)
        self._last_s = now_s if more_wait else None
