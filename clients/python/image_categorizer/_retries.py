"""When a failed call is made again, and after how long.

Knows neither network nor clock; whoever makes the calls reports what happens, and waits.
"""

import random
import threading
from collections.abc import Sequence

from image_categorizer.errors import CategorizerError, RateLimited, Unavailable

MAX_ATTEMPTS = 4
"""How often a call is made that a server is too busy for, or an upload is started."""
MAX_CUTS = 2
"""How often a call is made that is cut off."""
MAX_LOSSES = 3
"""How often a stream sends an image on calls that break."""
NOT_SENT = "failed to connect", "DNS resolution failed"
"""Parts of gRPC's message when no server had the call."""
MAX_FAILED_CALLS = 10
"""How many calls of one stream may end early in a row without an answer."""
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
JITTER = 0.2
"""By how much a wait differs at random, so that clients do not return all at once."""
MAX_RETRY_AFTER_S = 120.0
"""A server that asks for a longer wait is not waited for."""
BUDGET = 10.0
SUCCESSES_FOR_A_RETRY = 10.0


def backoff_s(attempt: int) -> float:
    """Returns a wait after the given attempt, counted from 1, in seconds."""
    mean_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (attempt - 1))
    return float(mean_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - spreads load


def is_disconnect(error: CategorizerError) -> bool:
    """Returns whether the connection broke before the server could answer.

    gRPC reports that as INTERNAL, UNKNOWN, CANCELLED or UNAVAILABLE, without the header that the
    server adds.
    """
    statuses = "INTERNAL", "UNKNOWN", "CANCELLED", "UNAVAILABLE"
    return error.status in statuses and not error.request_id


def was_cut_off(error: CategorizerError) -> bool:
    """Returns whether a call was cut off that a server may have been serving."""
    is_answer = error.retry_after_s is not None
    was_sent = not any(words in error.message for words in NOT_SENT)
    return is_disconnect(error) and was_sent and not is_answer


def ended_early() -> Unavailable:
    """Returns the error of a call that ended without an error but with images unanswered."""
    return Unavailable("the server ended the call before it had answered everything")


class RetryBudget:
    """Bounds the retries of one client, so that clients do not multiply an overload.

    Ten retries, and then one for each ten calls that succeed: the retry throttling of gRPC
    (proposal A6).  Any thread may use it.
    """

    def __init__(self) -> None:
        self._retries = BUDGET
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Notes that a call succeeded."""
        with self._lock:
            self._retries = min(BUDGET, self._retries + 1 / SUCCESSES_FOR_A_RETRY)

    def take(self) -> bool:
        """Returns whether there is a retry left, and takes it."""
        with self._lock:
            if self._retries < 1:
                return False
            self._retries -= 1
            return True


class Retries:
    """Counts failures in a row, and decides whether to try again."""

    def __init__(
        self, max_failures: int, budget: RetryBudget | None = None, max_cuts: int | None = None
    ) -> None:
        """Starts at zero.

        Args:
            max_failures: the number of the failure that is final.
            budget: what each retry is taken from; None for streams, of which each calls again only
                every few seconds.
            max_cuts: the number of the call that is final if it is cut off: it may be what crashes
                the server. None if it cannot be, or if someone else counts.
        """
        self._max_failures = max_failures
        self._budget = budget
        self._max_cuts = max_cuts
        self._failures = 0
        self._cuts = 0
        self.may_crash = False
        """Whether an earlier call may have crashed its server; the next one says so."""

    def succeeded(self) -> None:
        """Starts counting from zero again."""
        self._failures = self._cuts = 0

    def failed(self, error: CategorizerError) -> float:
        """Returns after how many seconds to try again.

        Raises:
            CategorizerError: `error`, if it is permanent, there were too many failures, the budget
                is spent, or the server asks for too long a wait.
        """
        self._failures += 1
        is_cut = was_cut_off(error)
        self._cuts += is_cut
        # A gateway without another server says only that it is unavailable.
        self.may_crash = self.may_crash or is_cut or type(error) is Unavailable
        asked_s = error.retry_after_s or 0.0
        is_transient = is_disconnect(error) or isinstance(error, Unavailable | RateLimited)
        if (
            not is_transient
            or self._failures >= self._max_failures
            or (is_cut and self._cuts == self._max_cuts)
            or asked_s > MAX_RETRY_AFTER_S
            or (self._budget is not None and not self._budget.take())
        ):
            raise error
        return asked_s + backoff_s(self._failures)


def uploads_of(sources: object, budget: RetryBudget) -> Retries:
    """Returns the retries of an upload: none if its sources can be read only once."""
    is_replayable = isinstance(sources, Sequence | set | frozenset)
    return Retries(MAX_ATTEMPTS if is_replayable else 1, budget)
