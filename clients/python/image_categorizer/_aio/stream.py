"""A stream by asyncio: one task sends, one receives, the caller takes the results.

Its twin in `_sync` is written by hand.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)

import grpc

from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.ending import Ending
from image_categorizer._aio.tasks import Tasks
from image_categorizer._ledger import Item, Ledger, total_of
from image_categorizer._retries import ended_early
from image_categorizer._values import Progress, Result, Source
from image_categorizer.errors import CategorizerError
from image_categorizer.v1 import classify_pb2

Call = grpc.aio.StreamStreamCall[
    classify_pb2.ClassifyStreamRequest, classify_pb2.ClassifyStreamResponse
]


class AsyncStream:
    """Many images on one call, and on the next one if that call ends early."""

    def __init__(
        self,
        connection: AsyncConnection,
        max_image_bytes: Callable[[], Awaitable[int]],
        sources: Iterable[Source] | AsyncIterable[Source],
        ledger: Ledger,
        on_progress: Progress | None,
    ) -> None:
        self._connection = connection
        self._ask_max_image_bytes = max_image_bytes
        self._max_image_bytes = 0
        self._sources = _iterated(sources)
        self._total = total_of(sources)
        self._on_progress = on_progress
        self._ledger = ledger
        # None: the call ended without an error.  An exception ends the call or the stream.
        self._results: asyncio.Queue[Result | BaseException | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._pulls = Tasks(self._results.put_nowait)
        self._is_pulling = False

    async def results(self) -> AsyncIterator[Result]:
        """Yields one result for each source, in the order in which they become ready.

        Raises:
            CategorizerError: the call cannot be made, or ended early too often.
            Exception: what the sources raised, after the results of those before.
        """
        try:
            while True:
                call: Call | None = None
                tasks = Tasks(self._results.put_nowait)
                try:
                    self._max_image_bytes = (
                        self._max_image_bytes or await self._ask_max_image_bytes()
                    )
                    call = self._connection.stubs.classify.ClassifyStream(
                        metadata=await self._connection.headers()
                    )
                    tasks.start(self._send(call))
                    tasks.start(self._receive(call, Ending(call)))
                    while (result := await self._next_result()) is not None:
                        yield result
                    break
                except CategorizerError as error:
                    wait_s = self._ledger.ended(error)
                    for lost in self._ledger.given_up():
                        self._results.put_nowait(lost)
                finally:
                    if call is not None:
                        call.cancel()
                    await tasks.close()
                await asyncio.sleep(wait_s)
            if self._ledger.source_error is not None:
                raise self._ledger.source_error
        finally:
            await self._pulls.close()
            await self._sources.aclose()

    async def _next_result(self) -> Result | None:
        """Returns None when the call has ended and everything is answered."""
        result = await self._results.get()
        if isinstance(result, BaseException):
            raise result
        if result is None:
            if not self._ledger.is_finished:
                raise ended_early()
            return None
        done = self._ledger.given()
        self._changed.set()
        if self._on_progress is not None:
            self._on_progress(done, self._total)
        return result

    async def _receive(self, call: Call, ending: Ending) -> None:
        try:
            headers = dict(await call.initial_metadata() or ())
            request_id = str(headers.get("x-request-id", ""))
            if request_id:
                self._ledger.accepted()
            async for response in call:
                if result := self._ledger.answered(response, request_id):
                    self._results.put_nowait(result)
                self._changed.set()
            self._results.put_nowait(None)
        except grpc.RpcError as error:
            self._results.put_nowait(ending.error(error))

    async def _send(self, call: Call) -> None:
        try:
            await call.write(self._ledger.config)
            while (item := await self._next_item()) is not None:
                try:
                    request = (
                        await asyncio.to_thread(item.request, self._max_image_bytes)
                        if item.is_slow
                        else item.request(self._max_image_bytes)
                    )
                except (OSError, CategorizerError) as error:
                    if result := self._ledger.failed(item, error):
                        self._results.put_nowait(result)
                else:
                    await call.write(request)
            await call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the call has ended, and `_receive` reports why

    async def _next_item(self) -> Item | None:
        """Waits for something to send; returns None when there is nothing more."""
        while True:
            self._changed.clear()
            if self._ledger.is_finished:
                return None
            pause_s = self._ledger.pause_s()
            if not pause_s and (item := self._ledger.next_item()):
                return item
            if not pause_s and self._ledger.can_take and not self._is_pulling:
                self._is_pulling = True
                self._pulls.start(self._pull())
            try:
                async with asyncio.timeout(pause_s or None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _pull(self) -> None:
        """Takes one source; outlives the call, so that a source under way is not lost."""
        try:
            self._ledger.take(await anext(self._sources))
        except StopAsyncIteration:
            self._ledger.exhaust()
        except Exception as error:  # noqa: BLE001 - the caller's own; raised after the results
            self._ledger.exhaust(error)
        finally:
            self._is_pulling = False
            self._changed.set()


async def _iterated(
    sources: Iterable[Source] | AsyncIterable[Source],
) -> AsyncGenerator[Source, None]:
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            yield source
    else:
        for source in sources:
            yield source
