"""The one clock that leases, expiry, retention and tokens read, so that a test can shift it."""

from datetime import UTC, datetime, timedelta

_offset = timedelta(0)


def shift(offset_s: float) -> None:
    """Sets by how many seconds the clock is ahead of the system's, in place of before."""
    global _offset  # noqa: PLW0603 - one clock is what this module is for
    _offset = timedelta(seconds=offset_s)


def now() -> datetime:
    """Returns the present moment, with its zone (UTC)."""
    return datetime.now(UTC) + _offset


def offset() -> timedelta:
    """Returns by how much the clock is ahead, for statements that take the database's time."""
    return _offset
