"""ClassifyStream: many images on one call, answered as they become ready.

    limiter ─▶ read ─▶ one task per item: classify ─▶ write, one at a time

An item counts against the limiter from its read until its answer is written.  So a client that
reads slowly is read slowly: HTTP/2 flow control holds it back, and nothing accumulates here.  The
call of a client that does not read at all is ended.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import grpc
from image_categorizer.v1 import classify_pb2

from image_categorizer_server.clock import jittered
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.classification import ClassifyOptions, Lane
from image_categorizer_server.domain.tenant import bind_tenant
from image_categorizer_server.errors import (
    CategorizerError,
    DeadlineExceeded,
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    ModelLoading,
    Overloaded,
    RoleInsufficient,
)
from image_categorizer_server.rpc.call import current_call, readmission, send
from image_categorizer_server.rpc.options import options_from_wire, with_blur
from image_categorizer_server.rpc.status import error_for_caller, status_of
from image_categorizer_server.services.classify import Origin
from image_categorizer_server.settings.server import ServerSettings
from image_categorizer_server.tasks import detached
from image_categorizer_server.telemetry.tracing import SERVER_FAULTS, traced

Request = classify_pb2.ClassifyStreamRequest
Response = classify_pb2.ClassifyStreamResponse
Item = classify_pb2.ClassifyStreamItem
Answer = classify_pb2.ClassifyResponse
Context = grpc.aio.ServicerContext[Request, Response]
Classify = Callable[[bytes, ClassifyOptions, Lane, Origin], Awaitable[Answer]]
METHOD = "ClassifyStream"
MAX_KEY_CHARACTERS = 256
MAX_TENANT_CHARACTERS = 64
LANES = {
    classify_pb2.ClassifyStreamConfig.LANE_UNSPECIFIED: Lane.INTERACTIVE,
    classify_pb2.ClassifyStreamConfig.INTERACTIVE: Lane.INTERACTIVE,
    classify_pb2.ClassifyStreamConfig.BATCH: Lane.BATCH,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """An image that was read."""

    content: bytes
    origin: Origin
    blur: tuple[str, ...]
    """See `ClassifyStreamItem.blur`."""


class InFlightLimiter:
    """Limits the items of one call that are read but not answered, by number and by bytes."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items = 0
        self._bytes = 0
        self._removed = asyncio.Event()
        self._is_closed = False

    async def wait(self) -> bool:
        """Waits until another item may be read. That item may exceed the limit of bytes.

        Returns:
            Whether it may; False once the limiter is closed.
        """
        while not self._is_closed and (
            self._items >= self._max_items or self._bytes >= self._max_bytes
        ):
            self._removed.clear()
            await self._removed.wait()
        return not self._is_closed

    def close(self) -> None:
        """Ends the wait: nothing will be answered any more."""
        self._is_closed = True
        self._removed.set()

    def add(self, size_bytes: int) -> None:
        """Counts an item that was read."""
        self._items += 1
        self._bytes += size_bytes

    def remove(self, size_bytes: int) -> None:
        """Counts an item that was answered."""
        self._items -= 1
        self._bytes -= size_bytes
        self._removed.set()


class ItemStream:
    """The items of one call."""

    def __init__(
        self,
        context: Context,
        classify: Classify,
        server: ServerSettings,
        max_filter_categories: int,
    ) -> None:
        self._context = context
        self._classify = classify
        self._max_filter_categories = max_filter_categories
        self._options = ClassifyOptions()
        self._lane = Lane.INTERACTIVE
        self._item_s = server.default_deadline_s
        self._send_timeout_s = server.send_timeout_s
        self._call = current_call.get()
        self._limiter = InFlightLimiter(
            server.max_stream_in_flight, server.max_stream_in_flight_bytes
        )
        self._writing = asyncio.Lock()
        self._unanswered: set[str] = set()
        self._is_over = False

    async def serve(self, refusing: asyncio.Event) -> None:
        """Answers all items; once `refusing` is set, only those already read.

        Raises:
            InvalidRequest: a message has the wrong kind, or an item's key is invalid.
            RoleInsufficient: a caller that is not a worker names a tenant.
            Draining: the server stops before the client has closed its side.
            CategorizerError: the caller is no longer admitted.
        """
        try:
            async with asyncio.TaskGroup() as items:
                stopping = items.create_task(refusing.wait())
                # gRPC cannot cancel a read: it ends with the call.
                reading = detached(self._read_all(items, refusing))
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if reading.done():
                    reading.result()
            if not (reading.done() and reading.result()):
                raise Draining("this server is stopping")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._is_over = True
            self._limiter.close()

    async def _read_all(self, items: asyncio.TaskGroup, refusing: asyncio.Event) -> bool:
        """Reads until the client closes its side; returns False if the call ends before."""
        readmit = readmission()
        self._configure(await self._context.read())
        while await self._limiter.wait():
            message: object = await self._context.read()
            if not isinstance(message, Request):
                return True
            if self._is_over or refusing.is_set():
                return False
            await readmit()
            item = self._checked(message)
            content = item.image
            self._unanswered.add(item.key)
            self._limiter.add(len(content))
            origin = Origin(item.filename)
            image = Sent(content, origin, tuple(item.blur))
            answer = self._answer(item.key, image, is_repeated=item.attempt > 1)
            items.create_task(answer)
            # Frees the message, which holds the image a second time.
            del message, item, content, image, answer
        return False

    def _configure(self, message: object) -> None:
        if not isinstance(message, Request) or message.WhichOneof("message") != "config":
            raise InvalidRequest.of([("config", "is required in the first message")])
        config = message.config
        if config.lane not in LANES:
            raise InvalidRequest.of([("config.lane", f"{config.lane} is not a lane")])
        self._lane = LANES[config.lane]
        self._serve_tenant(config.tenant_id, config.key_id)
        self._options = options_from_wire(
            config.options, self._max_filter_categories, "config.options."
        )

    def _serve_tenant(self, tenant_id: str, key_id: str) -> None:
        if not tenant_id and not key_id:
            return
        if self._call.principal is None or self._call.principal.role is not Role.WORKER:
            raise RoleInsufficient("only the role 'worker' may name a tenant or a key")
        for field, name, most in (
            ("config.tenant_id", tenant_id, MAX_TENANT_CHARACTERS),
            ("config.key_id", key_id, MAX_KEY_CHARACTERS),
        ):
            if len(name) > most:
                text = f"must have at most {most} characters, has {len(name)}"
                raise InvalidRequest.of([(field, text)])
        try:
            if tenant_id:
                bind_tenant(tenant_id)
        except ValueError:
            raise InvalidRequest.of([("config.tenant_id", "is not the id of a tenant")]) from None
        self._call.on_behalf_of, self._call.on_behalf_of_key = tenant_id, key_id

    def _checked(self, message: Request) -> Item:
        if message.WhichOneof("message") != "item":
            raise InvalidRequest.of([("item", "is required in every message after the first")])
        key = message.item.key
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            text = f"must have 1 to {MAX_KEY_CHARACTERS} characters, has {len(key)}"
            raise InvalidRequest.of([("item.key", text)])
        if key in self._unanswered:
            raise InvalidRequest.of([("item.key", f"'{key}' is still unanswered")])
        return message.item

    async def _answer(self, key: str, image: "Sent", *, is_repeated: bool) -> None:
        call = replace(
            self._call,
            start_s=time.perf_counter(),
            deadline_s=time.monotonic() + self._item_s,
            is_repeated=is_repeated,
        )
        current_call.set(call)
        # A trace of its own: a stream may last for days.
        with traced(f"{METHOD} item", "consumer", traceparent="") as span:
            try:
                assert call.charged_image is not None, "only streams have items"
                async with call.charged_image():
                    options = with_blur(self._options, image.blur) if image.blur else self._options
                    answer = await self._classify_in_time(image, options)
                    response = Response(key=key, response=answer)
            except Exception as error:  # noqa: BLE001 - fails the item, not the call
                failure = error_for_caller(error, METHOD, call)
                response = Response(key=key, status=status_of(failure))
                if span and failure.status in SERVER_FAULTS:
                    span.fail(failure.status)
        async with self._writing:
            # Before the write: the client may reuse the key as soon as it has the answer.
            self._unanswered.discard(key)
            # The client may have gone. gRPC then cancels the call by itself.
            with suppress(grpc.aio.InternalError):
                await send(self._context, response, self._send_timeout_s)
        self._limiter.remove(len(image.content))

    async def _classify_in_time(self, image: "Sent", options: ClassifyOptions) -> Answer:
        """Classifies. In lane BATCH, retries until the deadline while the server is overloaded."""
        refusal: CategorizerError = DeadlineExceeded(
            "the deadline passed before the answer was ready"
        )
        try:
            async with asyncio.timeout(self._item_s) as deadline:
                while True:
                    try:
                        return await self._classify(
                            image.content, options, self._lane, image.origin
                        )
                    except (Overloaded, DeadlineUnreachable, ModelLoading) as error:
                        if self._lane is not Lane.BATCH:
                            raise
                        refusal, wait_s = error, error.retry_after_s
                    await asyncio.sleep(jittered(wait_s))
        except TimeoutError:
            if not deadline.expired():
                raise
            raise refusal from None
