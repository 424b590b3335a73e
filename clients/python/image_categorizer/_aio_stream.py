"""A stream for asyncio: one task sends, one receives, the caller takes the results."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

import grpc

from image_categorizer._streams import (
    Item,
    Ledger,
    Progress,
    Result,
    Source,
    ended_early,
    total_of,
)
from image_categorizer.errors import CategorizerError
from image_categorizer.statuses import from_rpc_error
from image_categorizer.v1 import classify_pb2

Call = grpc.aio.StreamStreamCall[
    classify_pb2.ClassifyStreamRequest, classify_pb2.ClassifyStreamResponse
]


class AsyncStream:
    """The twin of `SyncStream`."""

    def __init__(
        self,
        open_call: Callable[[], Call],
        max_image_bytes: Callable[[], Awaitable[int]],
        sources: Iterable[Source] | AsyncIterable[Source],
        ledger: Ledger,
        on_progress: Progress | None,
    ) -> None:
        self._open = open_call
        self._ask_max_image_bytes = max_image_bytes
        self._max_image_bytes = 0
        self._sources = _iterated(sources)
        self._total = total_of(sources)
        self._on_progress = on_progress
        self._ledger = ledger
        self._results: asyncio.Queue[Result | Exception | None] = asyncio.Queue()
        self._source_error: Exception | None = None
        self._changed = asyncio.Event()
        self._call: Call | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pulling: asyncio.Task[None] | None = None

    async def results(self) -> AsyncIterator[Result]:
        """Yields one result for each source, in the order in which they become ready.

        Raises:
            CategorizerError: the call cannot be made, or broke too often.
            Exception: what the sources raised, after the results of those before.
        """
        try:
            while True:
                try:
                    self._max_image_bytes = (
                        self._max_image_bytes or await self._ask_max_image_bytes()
                    )
                    self._start_call()
                    while (result := await self._next_result()) is not None:
                        yield result
                    break
                except CategorizerError as error:
                    wait_s = self._ledger.broken(error)
                finally:
                    await self._end_call()
                await asyncio.sleep(wait_s)
            if self._source_error is not None:
                raise self._source_error
        finally:
            if self._pulling is not None:
                self._pulling.cancel()

    def _start_call(self) -> None:
        self._call = call = self._open()
        self._tasks = [
            asyncio.create_task(self._send(call)),
            asyncio.create_task(self._receive(call)),
        ]

    async def _end_call(self) -> None:
        if self._call is not None:
            self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next_result(self) -> Result | None:
        """Returns None when the call has ended well."""
        result = await self._results.get()
        if isinstance(result, Exception):
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

    async def _receive(self, call: Call) -> None:
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
        except grpc.aio.AioRpcError as error:
            self._results.put_nowait(from_rpc_error(error))

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
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call has ended, and `_receive` knows why

    async def _next_item(self) -> Item | None:
        """Waits for something to send; returns None when there is nothing more."""
        while True:
            self._changed.clear()
            if self._ledger.is_finished:
                return None
            pause_s = self._ledger.pause_s()
            if not pause_s and (item := self._ledger.next_item()):
                return item
            if not pause_s and self._ledger.has_room and self._pulling is None:
                self._pulling = asyncio.create_task(self._pull())
            try:
                async with asyncio.timeout(pause_s or None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _pull(self) -> None:
        """Takes one source; outlives the call, for a source that was begun must not be lost."""
        try:
            self._ledger.take(await anext(self._sources))
        except StopAsyncIteration:
            self._ledger.is_exhausted = True
        except Exception as error:  # noqa: BLE001 - the caller's own, raised where it is seen
            self._source_error, self._ledger.is_exhausted = error, True
        finally:
            self._pulling = None
            self._changed.set()


async def _iterated(sources: Iterable[Source] | AsyncIterable[Source]) -> AsyncIterator[Source]:
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            yield source
    else:
        for source in sources:
            yield source
