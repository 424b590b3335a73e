"""What the asyncio client's lists are: iterators that can become tables."""

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Generic, ParamSpec, Self, TypeVar, cast

from image_categorizer import _frames

if TYPE_CHECKING:
    import pandas

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class AsyncListing(AsyncIterator[Value], Generic[Value]):
    """The values of a list, one after the other, as the server sends them.

        async for image in client.images.list(category="cat"):
            print(image.filename)
        frame = await client.images.list(category="cat").to_pandas()

    It is read once.
    """

    def __init__(self, values: AsyncIterator[Value]) -> None:
        # What the clients return are generators, whatever else they promise.
        self._values = cast("AsyncGenerator[Value, None]", values)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Value:
        return await self._values.__anext__()

    async def aclose(self) -> None:
        """Ends the list early, and the call that it is read from. Idempotent."""
        await self._values.aclose()

    async def to_pandas(self) -> "pandas.DataFrame":
        """Returns the values that are left as a pandas data frame; see `to_pandas`.

        Raises:
            ImportError: pandas is not installed; nothing was read.
            CategorizerError: see `image_categorizer.errors`.
        """
        _frames.require_pandas()
        return _frames.to_pandas([value async for value in self])


def listing(
    method: Callable[Arguments, AsyncIterator[Value]],
) -> Callable[Arguments, AsyncListing[Value]]:
    """Makes the method that yields values return a listing of them."""

    @functools.wraps(method)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> AsyncListing[Value]:
        return AsyncListing(method(*args, **kwargs))

    return made
