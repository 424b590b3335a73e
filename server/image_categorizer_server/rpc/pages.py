"""Pages that fit into a message: a list is cut by bytes, too, not only by `page_size`.

gRPC clients refuse messages of more than 4 MB, and a list's items may be a thousand times larger
than usual: a result with all categories of a model, a batch with a long filter.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from image_categorizer_server.paging import Page, limit_of

Item = TypeVar("Item")
Wire = TypeVar("Wire", bound=Message)
# What a repeated field adds to each of its messages: a tag, and a length.
FIELD_BYTES = 6
# Items are read from the database a few at a time until their size is known.
FIRST_READ = 20


class PageRequest(Protocol):
    """The fields with which a request asks for a page."""

    @property
    def page_size(self) -> int:
        """The maximum number of items; 0 for the default."""

    @property
    def page_token(self) -> str:
        """The token of the page; empty for the first one."""


class WirePage(Generic[Wire]):
    """A page as it is sent.  It holds at least one item, however large, if there is one."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes
        self.messages: list[Wire] = []
        self.next_page_token = ""

    def fill(self, page: Page[Item], to_wire: Callable[[Item], Wire]) -> bool:
        """Adds the items of `page` that fit, and returns whether all did."""
        for index, item in enumerate(page.items):
            message = to_wire(item)
            size = message.ByteSize() + FIELD_BYTES
            if self.messages and size > self._free_bytes:
                # The item before this one may be the last of an earlier read, which set the token.
                if index:
                    self.next_page_token = page.token_after(index - 1)
                return False
            self.messages.append(message)
            self._free_bytes -= size
        self.next_page_token = page.next_page_token
        return True

    def rows_to_read(self, limit: int) -> int:
        """Returns how many more items probably fit, 1 at least and `limit` at most."""
        if not self.messages:
            return min(FIRST_READ, limit)
        used_bytes = sum(message.ByteSize() for message in self.messages)
        fitting = self._free_bytes * len(self.messages) // max(used_bytes, 1)
        return max(1, min(fitting, limit))


def cut(page: Page[Item], to_wire: Callable[[Item], Wire], max_bytes: int) -> WirePage[Wire]:
    """Returns as many items of a page as fit into `max_bytes`."""
    wire = WirePage[Wire](max_bytes)
    wire.fill(page, to_wire)
    return wire


async def read(
    request: PageRequest,
    read_page: Callable[[int, str], Awaitable[Page[Item]]],
    to_wire: Callable[[Item], Wire],
    max_bytes: int,
) -> WirePage[Wire]:
    """Returns the page for which a request asks, read in parts of a size that fits.

    Args:
        request: has the size and the token of the page.
        read_page: returns the items after a token, at most as many as its first argument.
        to_wire: converts an item.
        max_bytes: the maximum size of the page.

    Raises:
        InvalidRequest: `page_size` or `page_token` is not valid.
    """
    limit, token = limit_of(request.page_size), request.page_token
    wire = WirePage[Wire](max_bytes)
    while len(wire.messages) < limit:
        count = wire.rows_to_read(limit - len(wire.messages))
        all_fit = wire.fill(await read_page(count, token), to_wire)
        token = wire.next_page_token
        if not (all_fit and token):
            break
    return wire
