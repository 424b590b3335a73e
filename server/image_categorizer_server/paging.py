"""Pages of a list, and the tokens that lead from one to the next (AIP-158).

A token names the position after which the next page begins.  It is opaque to clients and is not
secret: whoever forges one reads nothing that the same call would not list anyway.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from image_categorizer_server.errors import InvalidRequest

Item = TypeVar("Item")
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
# A position is compared with a bigint or a timestamp of PostgreSQL.
LARGEST_NUMBER = 2**63 - 1
SEPARATOR = "\x1f"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = datetime.max.replace(tzinfo=UTC) - EPOCH
MICROSECOND = timedelta(microseconds=1)
SCORE = re.compile(r"[01]\.[0-9]{9}")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list."""

    items: Sequence[Item]
    has_more: bool
    """Whether items follow the last one."""
    token_after: Callable[[int], str]
    """Returns the token of the page that begins after an item, given by its index in `items`."""

    @property
    def next_page_token(self) -> str:
        """The token of the next page; empty on the last one."""
        return self.token_after(len(self.items) - 1) if self.has_more and self.items else ""


def page_from(
    found: Sequence[Item], limit: int, token_of_item: Callable[[Item], str]
) -> Page[Item]:
    """Returns the page of the first `limit` items of those found.

    Args:
        found: one item more than `limit` if there are more.
        limit: see `limit_of`.
        token_of_item: returns the token of the page that begins after an item.
    """
    items = found[:limit]
    return Page(items, len(found) > limit, lambda index: token_of_item(items[index]))


def limit_of(page_size: int) -> int:
    """Returns how many items a page holds: 100 where `page_size` is 0, and 1,000 at most.

    Raises:
        InvalidRequest: `page_size` is negative.
    """
    if page_size < 0:
        raise InvalidRequest.of([("page_size", "must not be negative")])
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def token_of(*position: int | str) -> str:
    """Returns the token of a position: one or more values that order the list."""
    text = SEPARATOR.join(map(str, position))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def number_of(token: str) -> int | None:
    """Returns the number that a token holds; None for the empty token of the first page.

    Raises:
        InvalidRequest: the token was not made by `token_of` from one number.
    """
    if not token:
        return None
    (text,) = _position(token, 1)
    return _number(text)


def text_of(token: str) -> str | None:
    """Returns the text that a token holds; None for the empty token of the first page.

    Raises:
        InvalidRequest: the token was not made by `token_of` from one text.
    """
    return _position(token, 1)[0] if token else None


def number_and_text_of(token: str) -> tuple[int, str] | None:
    """Returns the number and the text that a token holds; None for the empty token.

    Raises:
        InvalidRequest: the token was not made by `token_of` from a number and a text.
    """
    if not token:
        return None
    number, text = _position(token, 2)
    return _number(number), text


def score_and_text_of(token: str) -> tuple[float, str] | None:
    """Returns the score and the text that a token holds; None for the empty token.

    Raises:
        InvalidRequest: the token was not made by `token_of_score`.
    """
    if not token:
        return None
    score, text = _position(token, 2)
    if not SCORE.fullmatch(score):
        raise _not_ours()
    return float(score), text


def token_of_score(score: float, text: str) -> str:
    """Returns the token of a position in a list that is ordered by a score in [0, 1] and a text."""
    return token_of(f"{score:.9f}", text)


def token_of_moment(time: datetime, text: str) -> str:
    """Returns the token of a position in a list that is ordered by a time and a text."""
    return token_of((time - EPOCH) // MICROSECOND, text)


def moment_and_text_of(token: str) -> tuple[datetime, str] | None:
    """Returns the time and the text that a token holds; None for the empty token.

    A forged time may be later than `datetime` ends; then it is the end.

    Raises:
        InvalidRequest: the token was not made by `token_of_moment`.
    """
    position = number_and_text_of(token)
    if position is None:
        return None
    micros, text = position
    return EPOCH + min(micros * MICROSECOND, LONGEST), text


def page_of(items: Sequence[Item], page_size: int, page_token: str) -> Page[Item]:
    """Returns one page of a list that is in memory; positions are offsets.

    Raises:
        InvalidRequest: `page_size` is negative, or `page_token` is not one of ours.
    """
    start = number_of(page_token) or 0
    end = start + limit_of(page_size)
    return Page(items[start:end], end < len(items), lambda index: token_of(start + index + 1))


def _position(token: str, count: int) -> list[str]:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        raise _not_ours() from None
    values = text.split(SEPARATOR)
    # base64 has several spellings of the same bytes; only ours counts.
    if len(values) != count or token_of(*values) != token or "\0" in text:
        raise _not_ours()
    return values


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= LARGEST_NUMBER):
        raise _not_ours()
    return int(text)


def _not_ours() -> InvalidRequest:
    return InvalidRequest.of([("page_token", "is not a token of an earlier answer")])
