"""Open ClassifyStream calls to the server: one for each tenant, key and set of options in use.

A stream is worth its cost when many images pass through it, also those of different chunks and
batches.  It closes when it has been idle for a while.
"""

import asyncio
import itertools
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from image_categorizer import (
    AddressNotAllowed,
    AsyncImageCategorizationClient,
    CategorizerError,
    Classification,
    OnDisconnect,
    Options,
    Result,
    RoleInsufficient,
    Source,
    Unauthenticated,
    Unavailable,
)
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.services.image import MAX_FILENAME_CHARACTERS
from image_categorizer_server.tasks import CLEAN_UP_S, TaskOwner, cancel_until_ended
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
REMEDY = "create a key for the workers: `image-categorizer keys create workers --role worker`"


class StreamKind(NamedTuple):
    """What all images of a stream share."""

    tenant_id: str
    options: ClassifyOptions
    key_id: str = ""
    """The API key that created their batches."""


class Sent(NamedTuple):
    """An image to classify."""

    content: bytes
    filename: str
    """The name by which it is stored if the options say so."""
    blur: tuple[str, ...] = ()
    """What is blurred in what is stored."""


OpenStream = Callable[[AsyncIterator[Source], OnDisconnect], AsyncIterator[Result]]


class CallFailed(Exception):
    """The whole call failed, with all images in it."""

    def __init__(self, error: CategorizerError) -> None:
        super().__init__(str(error))
        self.error = error


class ServerCrashed(Exception):
    """The connection broke, without an answer, while the server had the image."""


class _Disconnected(Exception):
    """Ends a stream. The callers of the images that the server had know already."""


class StreamPool:
    """The open streams of one process."""

    def __init__(
        self,
        client: AsyncImageCategorizationClient,
        idle_s: float,
        answer_timeout_s: float,
    ) -> None:
        """Configures the streams.

        Args:
            client: makes the calls.
            idle_s: how long a stream stays open without images, in seconds.
            answer_timeout_s: how long an image waits for its answer, in seconds.
        """
        self._client = client
        self._idle_s = idle_s
        self._answer_timeout_s = answer_timeout_s
        self._tasks = TaskOwner()
        self._streams: dict[StreamKind, _Stream] = {}
        self.isolation_lock = asyncio.Lock()
        """Hold it while you call `classify_isolated`."""

    async def classify(self, kind: StreamKind, image: Sent) -> Classification:
        """Classifies an image, together with others; stores it by its name if the options say so.

        A server that is busy is asked again.

        Raises:
            CategorizerError: the server's error for this image.
            CallFailed: the server cannot be reached, does not answer in time, or refuses the whole
                stream.
            ServerCrashed: the connection broke while the server had the image.
        """
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = self._open(kind, lambda: self._streams.pop(kind))
        return await self._answer_over(stream, image)

    async def classify_isolated(self, kind: StreamKind, image: Sent) -> Classification:
        """Classifies an image over a stream of its own.

        Raises:
            CategorizerError, CallFailed, ServerCrashed: see `classify`.
        """
        stream = self._open(kind, lambda: None)
        try:
            return await self._answer_over(stream, image)
        finally:
            await stream.close()

    async def _answer_over(self, stream: "_Stream", image: Sent) -> Classification:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                return await stream.classify(image)
        except TimeoutError:
            # Its connection lives, or gRPC would have noticed; but nobody answers over it.
            log.warning("the server does not answer an image", after_s=self._answer_timeout_s)
            await stream.close()
            raise CallFailed(Unavailable("the server does not answer in time")) from None

    async def close(self) -> None:
        """Closes all streams. Calls that still wait fail."""
        await self._tasks.close()

    def _open(self, kind: StreamKind, on_end: Callable[[], object]) -> "_Stream":
        wire_options = _wire_options(kind.options)

        def open_stream(
            sources: AsyncIterator[Source], on_disconnect: OnDisconnect
        ) -> AsyncIterator[Result]:
            return self._client.classify_stream(
                sources,
                lane="BATCH",
                on_disconnect=on_disconnect,
                tenant_id=kind.tenant_id,
                key_id=kind.key_id,
                **wire_options,
            )

        return _Stream(open_stream, self._idle_s, on_end, self._tasks)


class _Stream:
    def __init__(
        self,
        open_stream: OpenStream,
        idle_s: float,
        on_end: Callable[[], object],
        tasks: TaskOwner,
    ) -> None:
        self._open_stream = open_stream
        self._idle_s = idle_s
        self._on_end = on_end
        # Not bounded here: the callers of `classify` limit the images in memory.
        self._sources: asyncio.Queue[tuple[str, bytes, Sequence[str]]] = asyncio.Queue()
        self._keys = itertools.count()
        self._waiting: dict[str, asyncio.Future[Classification]] = {}
        self._running = tasks.start(self._run(), "stream to the server")

    async def classify(self, image: Sent) -> Classification:
        # The client stores an image by what follows the last slash.
        key = f"{next(self._keys)}/{stored_name(image.filename)}"
        answer: asyncio.Future[Classification] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self._sources.put_nowait((key, image.content, image.blur))
        try:
            return await answer
        finally:
            del self._waiting[key]

    async def close(self) -> None:
        await cancel_until_ended({self._running}, CLEAN_UP_S)

    async def _run(self) -> None:
        try:
            while True:
                try:
                    async for result in self._open_stream(self._next_sources(), self._disconnected):
                        self._answer(result)
                except _Disconnected:
                    self._fail_all(CallFailed(Unavailable("the connection broke")))
                except CategorizerError as error:
                    if isinstance(error, AddressNotAllowed | RoleInsufficient | Unauthenticated):
                        log.warning("batches wait: the server refuses our key", remedy=REMEDY)
                    self._fail_all(CallFailed(error))
                if self._sources.empty():
                    return
        except Exception as error:  # a bug: it must reach those who wait
            self._fail_all(error)
            raise
        finally:
            self._fail_all(CallFailed(Unavailable("the stream was closed")))
            self._on_end()

    async def _next_sources(self) -> AsyncIterator[Source]:
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    source = await self._sources.get()
            except TimeoutError:
                if self._waiting:
                    continue
                return
            if source[0] in self._waiting:  # otherwise the lease was lost and the caller is gone
                yield source

    def _disconnected(self, keys: Sequence[str]) -> None:
        for key in keys:
            answer = self._waiting.get(key)
            if answer is not None and not answer.done():
                answer.set_exception(ServerCrashed())
        raise _Disconnected

    def _fail_all(self, error: Exception) -> None:
        while not self._sources.empty():
            self._sources.get_nowait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)

    def _answer(self, result: Result) -> None:
        answer = self._waiting.get(result.key)
        if answer is None or answer.done():
            return
        if result.classification is not None:
            answer.set_result(result.classification)
        else:
            assert isinstance(result.error, CategorizerError)
            answer.set_exception(result.error)


def stored_name(filename: str) -> str:
    """Returns the name by which the image of an item is stored.

    Items may have names that images may not: those are cut, and lose characters of control.
    """
    name = filename.replace("\\", "/").rpartition("/")[2]
    printable = [c for c in name if unicodedata.category(c) not in ("Cc", "Cs")]
    return "".join(printable)[-MAX_FILENAME_CHARACTERS:]


def _wire_options(options: ClassifyOptions) -> Options:
    wire = Options(
        model=options.model,
        version="" if options.version is None else str(options.version),
        confidence_threshold=options.confidence_threshold,
        top_k=options.top_k,
        include_categories=options.include_categories,
        exclude_categories=options.exclude_categories,
        bounding_boxes=options.bounding_boxes,
        no_cache=options.no_cache,
        raw_confidence=options.raw_confidence,
        store=options.store,
        subject_id=options.subject_id,
    )
    if options.roll_up is not None:
        wire["roll_up"] = options.roll_up
    return wire
