"""How long a model call takes, and how fast images leave: what deadlines are judged by."""

import bisect
import math
import time
from collections.abc import Mapping

# A new observation weighs a tenth.
SMOOTHING = 0.1
# What was learnt is forgotten after so long without a call: else a stall that makes every deadline
# seem out of reach would let no call pass that could unlearn it.
FORGET_S = 5.0
# A machine that stood still has not become slow.
MOST_JUMP = 4.0
# So many images make an old observation of the rate count a third.
RATE_MEMORY_IMAGES = 64
# A micro-batch is worth its turn where an image costs at most so much more than in the largest.
EFFICIENT = 1.1


class LatencyTable:
    """Seconds of one model call by micro-batch size, measured at warm-up and corrected since."""

    def __init__(self, measured_s: Mapping[int, float]) -> None:
        """Takes the measured sizes, at least one; between them the table is interpolated."""
        self._sizes = sorted(measured_s)
        self._seconds = [measured_s[size] for size in self._sizes]
        self._slowdown = 1.0
        self._learnt_s = -math.inf

    def estimate_s(self, size: int) -> float:
        """Returns the seconds that a call with `size` images will take now."""
        is_stale = time.monotonic() - self._learnt_s > FORGET_S
        return self._tabled_s(size) * (1.0 if is_stale else self._slowdown)

    def largest_within(self, seconds: float, most: int) -> int:
        """Returns the largest size up to `most` whose call fits into `seconds`, at least 1."""
        if self.estimate_s(most) <= seconds:
            return most
        sizes = range(1, most + 1)
        return max(1, bisect.bisect_right(sizes, seconds, key=self.estimate_s))

    def least_efficient(self, most: int) -> int:
        """Returns the smallest size that costs at most a tenth more an image than `most` does."""
        enough_s = EFFICIENT * self._tabled_s(most) / most
        return next(n for n in range(1, most + 1) if self._tabled_s(n) / n <= enough_s or n == most)

    def observe(self, size: int, seconds: float) -> None:
        """Learns from one call: other work on the machine slows all sizes alike."""
        ratio = seconds / self._tabled_s(size)
        self._slowdown += SMOOTHING * (min(ratio, MOST_JUMP * self._slowdown) - self._slowdown)
        self._learnt_s = time.monotonic()

    def _tabled_s(self, size: int) -> float:
        sizes, seconds = self._sizes, self._seconds
        right = bisect.bisect_left(sizes, size)
        if right < len(sizes) and sizes[right] == size:
            return seconds[right]
        if right == 0:
            return seconds[0]
        if right == len(sizes):  # beyond the table: in proportion
            return seconds[-1] * size / sizes[-1]
        share = (size - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
        return seconds[right - 1] + share * (seconds[right] - seconds[right - 1])


class ServiceRate:
    """Seconds between one image and the next while there is always one waiting."""

    def __init__(self, interval_s: float) -> None:
        """Starts from a guess, that of an otherwise idle machine."""
        self.interval_s = interval_s
        self._last_s: float | None = None

    def observe(self, images: int, now_s: float, *, more_wait: bool) -> None:
        """Learns from images that were just answered.

        Args:
            images: how many, at least 1.
            now_s: the time.
            more_wait: whether others wait still; the time to the next answer counts only then.
        """
        if self._last_s is not None:
            sample_s = min((now_s - self._last_s) / images, MOST_JUMP * self.interval_s)
            weight = 1 - math.exp(-images / RATE_MEMORY_IMAGES)
            self.interval_s += weight * (sample_s - self.interval_s)
        self._last_s = now_s if more_wait else None
