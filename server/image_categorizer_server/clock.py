"""Time: the clock that leases, expiry and tokens read, and the delays between attempts.

A test can shift the clock.
"""

import random
from datetime import UTC, datetime, timedelta

_offset = timedelta(0)
# More doublings change nothing: the cap is reached long before.
MAX_DOUBLINGS = 30


class Backoff:
    """Delays between attempts: each is twice as long as the one before, up to a cap, with jitter.

    The jitter keeps callers that failed together from trying again together.
    """

    def __init__(self, first_s: float, max_s: float, jitter: float = 0.5) -> None:
        """Starts before the first attempt.

        Args:
            first_s: delay after the first failure, in seconds.
            max_s: longest delay, in seconds, before jitter.
            jitter: largest share by which a delay is shortened or lengthened, in [0, 1].
        """
        self._first_s = first_s
        self._max_s = max_s
        self._jitter = jitter
        self._failures = 0

    def next_s(self) -> float:
        """Counts a failure and returns the delay before the next attempt, in seconds."""
        delay_s = self._first_s * 2 ** min(self._failures, MAX_DOUBLINGS)
        self._failures += 1
        return jittered(min(delay_s, self._max_s), self._jitter)

    def reset(self) -> None:
        """Forgets the failures: the next delay is the shortest again."""
        self._failures = 0


def jittered(delay_s: float, jitter: float = 0.5) -> float:
    """Returns a random delay between `delay_s * (1 - jitter)` and `delay_s * (1 + jitter)`."""
    return delay_s * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - not a secret


def shift(offset_s: float) -> None:
    """Sets how many seconds the clock is ahead of the system's clock."""
    global _offset  # noqa: PLW0603 - one clock is what this module is for
    _offset = timedelta(seconds=offset_s)


def now() -> datetime:
    """Returns the current time, in UTC."""
    return datetime.now(UTC) + _offset
