"""Values about limits: what a tenant may use, and what is left of it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

from image_categorizer_server.settings.limit import MAX_LIMIT

DAY_S = 86_400
RATES = "requests_per_s", "key_requests_per_s"
"""The limits that may be fractions."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tenant may use.  0 is no limit."""

    requests_per_s: float = 0.0
    request_burst: int = 0
    """Requests at once, after a pause; 0 for as many as a second allows."""
    key_requests_per_s: float = 0.0
    """Of each API key."""
    key_request_burst: int = 0
    images_per_day: int = 0
    """From midnight to midnight, UTC."""
    concurrent_batches: int = 0
    """Batches that have not ended."""
    stored_bytes: int = 0
    """Size of the images of all batches, those that have ended included."""

    def overridden(self, values: Mapping[str, object]) -> Self:
        """Returns the limits with some of them replaced.

        Args:
            values: new limits by name.

        Raises:
            ValueError: a name is not a limit, or a value is not a number of its kind; the message
                says which.
        """
        known = {field.name for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"{name} is not a limit: one of {', '.join(sorted(known))}")
            is_number = isinstance(value, int | float if name in RATES else int)
            if not is_number or isinstance(value, bool) or not 0 <= float(str(value)) <= MAX_LIMIT:
                kind = "number" if name in RATES else "whole number"
                raise ValueError(f"{name} must be a {kind} from 0 to 2^53")
        return replace(self, **values)  # type: ignore[arg-type]  # checked above


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit that refills steadily: `per_s` units a second, `burst` of them at once.

    The generic cell rate algorithm (ITU-T I.371): in any T seconds it allows `burst + per_s * T`.
    """

    name: str
    """Names the policy to callers."""
    key: str
    """Who shares it."""
    per_s: float
    burst: int

    @property
    def quota(self) -> int:
        """The units that one window allows."""
        return max(self.burst, int(self.per_s * self.window_s))

    @property
    def window_s(self) -> int:
        """The time in which an empty burst refills, in whole seconds."""
        return max(1, round(self.burst / self.per_s))


@dataclass(frozen=True, slots=True)
class DailyQuota:
    """A number of units for each day, UTC."""

    name: str
    key: str
    quota: int
    window_s: int = DAY_S


@dataclass(frozen=True, slots=True)
class Charge:
    """Units that a call takes from one limit."""

    limit: Rate | DailyQuota
    cost: int = 1
    """Negative to give units back."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of one limit."""

    limit: Rate | DailyQuota
    remaining: int
    reset_s: float
    """Seconds until all of it is there again."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call may go on.  If not, nothing was taken from any limit."""

    standings: tuple[Standing, ...]
    """In the order of the charges."""
    refused_by: Rate | DailyQuota | None = None
    """Of the limits that are used up, the one that takes longest."""
    retry_after_s: float = 0.0
    """Seconds after which a refused call succeeds, if others wait as long as they are asked to."""


def daily_images(tenant_id: str, quota: int) -> DailyQuota:
    """Returns the quota of a tenant's images."""
    return DailyQuota("images", f"images:{tenant_id}", quota)


def rate_of(name: str, key: str, per_s: float, burst: int) -> Rate:
    """Returns a rate; a burst of 0 is what one second allows."""
    return Rate(name, key, per_s, burst or max(1, round(per_s)))
