"""Streams to the server that stay open: one for each tenant and set of options in use.

A ClassifyStream call pays for itself when many images pass through it, also those of different
chunks and batches.  It is closed when nothing has passed for a while.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    Classification,
    Options,
    Result,
    RoleInsufficient,
    Source,
    Unauthenticated,
    Unavailable,
)
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
REMEDY = "give it a key of its own role: `image-categorizer keys create workers --role worker`"

Broken = Callable[[Sequence[str]], None]
Kind = tuple[str, ClassifyOptions]
"""What the images of one stream have in common: their tenant, and how they are classified."""
OpenStream = Callable[[AsyncIterator[Source], Broken], AsyncIterator[Result]]


class CallFailed(Exception):
    """Expected: not one image failed but the call that carried them all; its cause is the error."""

    def __init__(self, error: CategorizerError) -> None:
        super().__init__(str(error))
        self.error = error


class ServerDied(Exception):
    """Expected: the stream broke without a word of the server's while the server had the image."""


class _Broken(Exception):
    """Ends a stream that broke; those whose images the server had know it already."""


class Feeds:
    """The open streams of one process."""

    def __init__(self, client: AsyncImageCategorizationClient, idle_s: float) -> None:
        """Configures the streams.

        Args:
            client: who calls.
            idle_s: how long a stream stays open while nothing passes, in seconds.
        """
        self._client = client
        self._idle_s = idle_s
        self._feeds: dict[Kind, _Feed] = {}
        self.alone = asyncio.Lock()
        """To be held by who calls `classify_alone`."""

    async def classify(
        self, tenant_id: str, options: ClassifyOptions, content: bytes
    ) -> Classification:
        """Returns what an image shows; waits as long as the server needs, and is tried again there.

        Raises:
            CategorizerError: the server's word on this image.
            CallFailed: the server cannot be reached, or refuses the whole stream.
            ServerDied: as it says.
        """
        kind = tenant_id, options
        feed = self._feeds.get(kind)
        if feed is None:
            feed = self._feeds[kind] = self._opened(kind, lambda: self._forget(kind))
        return await feed.classify(content)

    async def classify_alone(
        self, tenant_id: str, options: ClassifyOptions, content: bytes
    ) -> Classification:
        """As `classify`, but over a stream of its own."""
        feed = self._opened((tenant_id, options), lambda: None)
        try:
            return await feed.classify(content)
        finally:
            await feed.close()

    def _opened(self, kind: Kind, ended: Callable[[], None]) -> "_Feed":
        tenant_id, options = kind
        wanted = _wire_options(options)
        return _Feed(
            lambda sources, broken: self._client.classify_stream(
                sources, lane="BATCH", on_disconnect=broken, tenant_id=tenant_id, **wanted
            ),
            self._idle_s,
            ended,
        )

    def _forget(self, kind: Kind) -> None:
        del self._feeds[kind]

    async def close(self) -> None:
        """Ends all streams; who still waits gets a CancelledError."""
        await asyncio.gather(*(feed.close() for feed in list(self._feeds.values())))


class _Feed:
    def __init__(self, open_stream: OpenStream, idle_s: float, ended: Callable[[], None]) -> None:
        self._open = open_stream
        self._idle_s = idle_s
        self._ended = ended
        # Bounded by who calls `classify`.
        self._sources: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._keys = itertools.count()
        self._waiting: dict[str, asyncio.Future[Classification]] = {}
        self._running = asyncio.create_task(self._run())

    async def classify(self, content: bytes) -> Classification:
        key = str(next(self._keys))
        answer: asyncio.Future[Classification] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self._sources.put_nowait((key, content))
        try:
            return await answer
        finally:
            del self._waiting[key]

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                try:
                    async for result in self._open(self._next_sources(), self._broke):
                        self._answered(result)
                except _Broken:
                    self._fail_all(CallFailed(Unavailable("the connection broke")))
                except CategorizerError as error:
                    if isinstance(error, RoleInsufficient | Unauthenticated):
                        log.warning("the server refuses our key; batches wait", remedy=REMEDY)
                    self._fail_all(CallFailed(error))
                if self._sources.empty():
                    return
        finally:
            for answer in self._waiting.values():
                answer.cancel()
            self._ended()

    async def _next_sources(self) -> AsyncIterator[Source]:
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    source = await self._sources.get()
            except TimeoutError:
                if self._waiting:
                    continue
                return
            if source[0] in self._waiting:  # nobody wants what belongs to a lease that was lost
                yield source

    def _broke(self, keys: Sequence[str]) -> None:
        for key in keys:
            answer = self._waiting.get(key)
            if answer is not None and not answer.done():
                answer.set_exception(ServerDied())
        raise _Broken

    def _fail_all(self, error: CallFailed) -> None:
        while not self._sources.empty():
            self._sources.get_nowait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)

    def _answered(self, result: Result) -> None:
        answer = self._waiting.get(result.key)
        if answer is None or answer.done():
            return
        if result.classification is not None:
            answer.set_result(result.classification)
        else:
            assert isinstance(result.error, CategorizerError)
            answer.set_exception(result.error)


def _wire_options(options: ClassifyOptions) -> Options:
    return Options(
        model=options.model,
        version="" if options.version is None else str(options.version),
        confidence_threshold=options.confidence_threshold,
        top_k=options.top_k,
        include_categories=options.include_categories,
        exclude_categories=options.exclude_categories,
        bounding_boxes=options.bounding_boxes,
        no_cache=options.no_cache,
    )
