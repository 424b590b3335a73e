"""ClassifyStream: many images on one call, answered as they become ready.

    read ─▶ room? ─▶ a task for each item: classify ─▶ write, one at a time

An item takes room from before it is read until its answer is written, so a client that reads slowly
is read slowly: HTTP/2 holds it back, and nothing piles up here.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import grpc
from image_categorizer.v1 import classify_pb2

from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.classification import ClassifyOptions, Lane
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
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.status import failure_of
from image_categorizer_server.rpc.validation import classify_options
from image_categorizer_server.settings.server import ServerSettings

Request = classify_pb2.ClassifyStreamRequest
Response = classify_pb2.ClassifyStreamResponse
Item = classify_pb2.ClassifyStreamItem
Context = grpc.aio.ServicerContext[Request, Response]
Classify = Callable[[bytes, ClassifyOptions, Lane], Awaitable[classify_pb2.ClassifyResponse]]
METHOD = "ClassifyStream"
MOST_KEY_CHARACTERS = 256
MOST_TENANT_CHARACTERS = 64
# Those who were refused together shall not come back together.
JITTER = (0.5, 1.5)
LANES = {
    classify_pb2.ClassifyStreamConfig.LANE_UNSPECIFIED: Lane.INTERACTIVE,
    classify_pb2.ClassifyStreamConfig.INTERACTIVE: Lane.INTERACTIVE,
    classify_pb2.ClassifyStreamConfig.BATCH: Lane.BATCH,
}


class Room:
    """How many more items may be read, by their number and by their bytes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._taken = 0
        self._taken_bytes = 0
        self._given = asyncio.Event()

    async def wait(self) -> None:
        """Returns when one more may be read, however large it is."""
        while self._taken >= self._most or self._taken_bytes >= self._most_bytes:
            self._given.clear()
            await self._given.wait()

    def take(self, size_bytes: int) -> None:
        """Counts an item that was read."""
        self._taken += 1
        self._taken_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Counts an item that was answered."""
        self._taken -= 1
        self._taken_bytes -= size_bytes
        self._given.set()


class ItemStream:
    """The items of one call, from the reading of each to its answer."""

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
        self._call = current_call.get()
        self._room = Room(server.max_stream_in_flight, server.max_stream_in_flight_bytes)
        self._writing = asyncio.Lock()
        self._unanswered: set[str] = set()
        self._is_over = False

    async def serve(self, refusing: asyncio.Event) -> None:
        """Answers all items; when `refusing` is set, those that were read.

        Raises:
            InvalidRequest: a message is not what it must be, or an item's key is wrong.
            RoleInsufficient: a tenant is named by who is no worker.
            Draining: the server stops, and the client has not closed its side.
            CategorizerError: the caller may not call any more.
        """
        stopping = asyncio.create_task(refusing.wait())
        try:
            async with asyncio.TaskGroup() as items:
                reading = asyncio.create_task(self._read_all(items, refusing))
                # A read cannot be taken back: left alone, it ends with the call.
                reading.add_done_callback(_forget)
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
            if not (reading.done() and reading.result()):
                raise Draining("this server is stopping")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._is_over = True
            stopping.cancel()

    async def _read_all(self, items: asyncio.TaskGroup, refusing: asyncio.Event) -> bool:
        """Returns whether the client has sent everything."""
        assert self._call.readmit is not None
        self._configure(await self._context.read())
        while True:
            await self._room.wait()
            message: object = await self._context.read()
            if not isinstance(message, Request):
                return True
            if self._is_over or refusing.is_set():
                return False
            await self._call.readmit()
            item = self._checked(message)
            content = item.image
            self._unanswered.add(item.key)
            self._room.take(len(content))
            items.create_task(self._answer(item.key, content))
            # The message holds the image a second time.
            del message, item, content

    def _configure(self, message: object) -> None:
        if not isinstance(message, Request) or message.WhichOneof("message") != "config":
            raise InvalidRequest.of([("config", "is required in the first message")])
        config = message.config
        if config.lane not in LANES:
            raise InvalidRequest.of([("config.lane", f"{config.lane} is no lane")])
        self._lane = LANES[config.lane]
        self._serve_tenant(config.tenant_id)
        self._options = classify_options(
            config.options, self._max_filter_categories, "config.options."
        )

    def _serve_tenant(self, tenant_id: str) -> None:
        """Takes the images for a tenant's where a worker says so."""
        if not tenant_id:
            return
        if self._call.principal is None or self._call.principal.role is not Role.WORKER:
            raise RoleInsufficient("only the role 'worker' may name a tenant")
        if len(tenant_id) > MOST_TENANT_CHARACTERS:
            text = f"must have at most {MOST_TENANT_CHARACTERS} characters, has {len(tenant_id)}"
            raise InvalidRequest.of([("config.tenant_id", text)])
        self._call.on_behalf_of = tenant_id

    def _checked(self, message: Request) -> Item:
        if message.WhichOneof("message") != "item":
            raise InvalidRequest.of([("item", "is required in every message but the first")])
        key = message.item.key
        if not 1 <= len(key) <= MOST_KEY_CHARACTERS:
            text = f"must have 1 to {MOST_KEY_CHARACTERS} characters, has {len(key)}"
            raise InvalidRequest.of([("item.key", text)])
        if key in self._unanswered:
            raise InvalidRequest.of([("item.key", f"'{key}' is still unanswered")])
        return message.item

    async def _answer(self, key: str, content: bytes) -> None:
        call = replace(
            self._call,
            start_s=time.perf_counter(),
            deadline_s=time.monotonic() + self._item_s,
        )
        current_call.set(call)
        try:
            response = Response(key=key, response=await self._classify_in_time(content))
        except Exception as error:  # noqa: BLE001 - it is the item's, not the call's
            status = convert.status(failure_of(error, METHOD, call))
            response = Response(key=key, status=status)
        async with self._writing:
            # First, for the client may use the key again as soon as it has the answer.
            self._unanswered.discard(key)
            # A client that has gone is nobody's fault; gRPC cancels the call by itself.
            with suppress(grpc.aio.InternalError):
                await self._context.write(response)
        self._room.give(len(content))

    async def _classify_in_time(self, content: bytes) -> classify_pb2.ClassifyResponse:
        """Classifies; in lane BATCH asks again until the deadline while the server is too busy."""
        refusal: CategorizerError = DeadlineExceeded(
            "the deadline passed before the answer was ready"
        )
        try:
            async with asyncio.timeout(self._item_s) as deadline:
                while True:
                    try:
                        return await self._classify(content, self._options, self._lane)
                    except (Overloaded, DeadlineUnreachable, ModelLoading) as error:
                        if self._lane is not Lane.BATCH:
                            raise
                        refusal, wait_s = error, error.retry_after_s
                    await asyncio.sleep(wait_s * random.uniform(*JITTER))  # noqa: S311 - no secret
        except TimeoutError:
            if not deadline.expired():
                raise
            raise refusal from None


def _forget(task: asyncio.Task[bool]) -> None:
    """Marks what a task raised as seen."""
    if not task.cancelled():
        task.exception()
