# Generated from _aio/listing.py by tools/sync_twin.py; do not edit.
"""What the client's lists are: iterators that can become tables."""

import functools
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Generic, ParamSpec, Self, TypeVar, cast

from image_categorizer import _frames

if TYPE_CHECKING:
    import pandas

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Listing(Iterator[Value], Generic[Value]):
    """The values of a list, one after the other, as the server sends them.

        for image in client.images.list(category="cat"):
            print(image.filename)
        frame = client.images.list(category="cat").to_pandas()

    It is read once.
    """

    def __init__(self, values: Iterator[Value]) -> None:
        # What the clients return are generators, whatever else they promise.
        self._values = cast("Generator[Value, None]", values)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Value:
        return self._values.__next__()

    def close(self) -> None:
        """Ends the list early, and the call that it is read from. Idempotent."""
        self._values.close()

    def to_pandas(self) -> "pandas.DataFrame":
        """Returns the values that are left as a pandas data frame; see `to_pandas`.

        Raises:
            ImportError: pandas is not installed; nothing was read.
            CategorizerError: see `image_categorizer.errors`.
        """
        _frames.require_pandas()
        return _frames.to_pandas([value for value in self])


def listing(
    method: Callable[Arguments, Iterator[Value]],
) -> Callable[Arguments, Listing[Value]]:
    """Makes the method that yields values return a listing of them."""

    @functools.wraps(method)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Listing[Value]:
        return Listing(method(*args, **kwargs))

    return made
