"""The one clock that expiry reads, so that a test can shift it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Returns the present moment, with its zone (UTC)."""
    return datetime.now(UTC)
