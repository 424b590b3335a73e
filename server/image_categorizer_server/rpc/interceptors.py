"""What every call passes, in order: request id and trace, deadline, credentials, role, errors.

The one place that turns exceptions into statuses; nothing from inside reaches a client.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
from google.protobuf.message import Message

from image_categorizer_server.access.roles import RpcAccess, authorize
from image_categorizer_server.backend import Backend
from image_categorizer_server.domain.audit import Actor, current_actor
from image_categorizer_server.errors import (
    CategorizerError,
    DeadlineExceeded,
    Draining,
    Unavailable,
)
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import Call, current_call
from image_categorizer_server.rpc.status import failure_of
from image_categorizer_server.telemetry import bind_request, get_log, request_id_of, trace_id_of

log = get_log(__name__)
Context = grpc.aio.ServicerContext[Message, Message]
Headers = dict[str, str]
Behaviour = Callable[[Message, Context], Awaitable[Message]]
StreamBehaviour = Callable[[AsyncIterator[Message], Context], Awaitable[None]]
UploadBehaviour = Callable[[AsyncIterator[Message], Context], Awaitable[Message]]
DownloadBehaviour = Callable[[Message, Context], AsyncGenerator[Message]]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # not subscriptable at run time
# Streams of libraries' own services, which touch nothing of ours.
FOREIGN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every call of our own services."""

    def __init__(self, backend: Backend, access: Mapping[str, RpcAccess]) -> None:
        """Prepares to wrap calls.

        Args:
            backend: for credentials, settings, and whether the server stops.
            access: who may call each RPC, by its path.
        """
        self._backend = backend
        self._access = access
        self._logs_calls = backend.settings.log_level == "DEBUG"
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Returns the handler, wrapped; None where there is no such method."""
        method = handler_call_details.method
        if known := self._handlers.get(method):
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(FOREIGN):
            return handler
        return self._handlers.setdefault(method, self._wrapped_handler(method, handler))

    def _wrapped_handler(self, method: str, handler: "Handler") -> "Handler":
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._wrapped_stream(method, cast("StreamBehaviour", handler.stream_stream)),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                self._wrapped_upload(method, cast("UploadBehaviour", handler.stream_unary)),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._wrapped_download(method, cast("DownloadBehaviour", handler.unary_stream)),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        assert handler.unary_unary is not None
        return grpc.unary_unary_rpc_method_handler(
            self._wrapped(method, cast("Behaviour", handler.unary_unary)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrapped(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def serve(request: Message, context: Context) -> Message:
            call, headers = _begin(context)
            try:
                response = await self._within_deadline(method, behaviour, request, context, headers)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                failure = failure_of(error, method, call)
            else:
                if self._logs_calls:
                    log.debug("served", method=method, ms=round(call.elapsed_s * 1000, 1))
                context.set_trailing_metadata((("x-request-id", call.request_id),))
                return response
            return await abort(context, failure, call.request_id)

        return serve

    def _wrapped_stream(self, method: str, behaviour: StreamBehaviour) -> StreamBehaviour:
        async def serve(requests: AsyncIterator[Message], context: Context) -> None:
            call, headers = _begin(context)
            call.readmit = partial(self._admit, method, headers)
            try:
                await call.readmit()
                # Tells all on the way that the call has begun, however late its first answer is.
                await context.send_initial_metadata((("x-request-id", call.request_id),))
                await behaviour(requests, context)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                failure = failure_of(error, method, call)
            else:
                return
            await abort(context, failure, call.request_id)

        return serve

    def _wrapped_upload(self, method: str, behaviour: UploadBehaviour) -> UploadBehaviour:
        """An upload lasts as long as its client sends: only silence ends it."""
        silence_s = self._backend.settings.server.upload_idle_s

        async def serve(requests: AsyncIterator[Message], context: Context) -> Message:
            call, headers = _begin(context)
            call.readmit = partial(self._admit, method, headers)
            try:
                await call.readmit()
                # Tells the gateway that the call has begun: it would time the upload out.
                await context.send_initial_metadata((("x-request-id", call.request_id),))
                response = await behaviour(_never_silent(requests, silence_s), context)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                failure = failure_of(error, method, call)
            else:
                context.set_trailing_metadata((("x-request-id", call.request_id),))
                return response
            return await abort(context, failure, call.request_id)

        return serve

    def _wrapped_download(self, method: str, behaviour: DownloadBehaviour) -> DownloadBehaviour:
        async def serve(request: Message, context: Context) -> AsyncGenerator[Message]:
            call, headers = _begin(context)
            call.readmit = partial(self._admit, method, headers)
            try:
                await call.readmit()
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                failure = failure_of(error, method, call)
            else:
                context.set_trailing_metadata((("x-request-id", call.request_id),))
                return
            await abort(context, failure, call.request_id)

        return serve

    async def _within_deadline(
        self,
        method: str,
        behaviour: Behaviour,
        request: Message,
        context: Context,
        headers: Headers,
    ) -> Message:
        server = self._backend.settings.server
        remaining_s: float | None = context.time_remaining()  # None where the caller set none
        given_s = server.default_deadline_s if remaining_s is None else remaining_s
        within_s = min(given_s, server.max_deadline_s)
        current_call.get().deadline_s = time.monotonic() + within_s
        try:
            async with asyncio.timeout(within_s) as deadline:
                if self._access[method].required_role is not None:
                    await self._admit(method, headers)
                return await behaviour(request, context)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None

    async def _admit(self, method: str, headers: Headers) -> None:
        if self._backend.refusing.is_set():
            raise Draining("this server is stopping")
        principal = await self._backend.authenticator.authenticate(headers.get("authorization"))
        authorize(principal, self._access[method])
        call = current_call.get()
        call.principal = principal
        current_actor.set(Actor(principal.key_id, call.request_id))


def _begin(context: Context) -> tuple[Call, Headers]:
    """Returns what is known of a call, bound to the current task, and its headers."""
    headers = {
        key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }
    call = Call(request_id_of(headers.get("x-request-id")))
    bind_request(call.request_id, trace_id_of(headers.get("traceparent")))
    current_call.set(call)
    return call, headers


async def _never_silent(
    requests: AsyncIterator[Message], silence_s: float
) -> AsyncIterator[Message]:
    """Yields what the client sends.

    Raises:
        DeadlineExceeded: nothing came for `silence_s` seconds.
    """
    while True:
        # A read cannot be taken back: left alone, it ends with the call.
        reading = asyncio.ensure_future(anext(requests))
        reading.add_done_callback(_forget)
        await asyncio.wait({reading}, timeout=silence_s)
        if not reading.done():
            raise DeadlineExceeded(f"nothing came for {silence_s:g} seconds")
        try:
            message = reading.result()
        except StopAsyncIteration:
            return
        yield message


def _forget(task: "asyncio.Future[Message]") -> None:
    """Marks what a task raised as seen."""
    if not task.cancelled():
        task.exception()


async def abort(context: Context, error: CategorizerError, request_id: str) -> NoReturn:
    """Ends the call with the error's status."""
    status = convert.status(error)
    trailers: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", request_id),
    ]
    if isinstance(error, Unavailable):
        # For REST clients: RFC 9110, section 10.2.3; whole seconds.
        trailers.append(("retry-after", str(math.ceil(error.retry_after_s))))
    await context.abort(grpc.StatusCode[error.status], status.message, tuple(trailers))
