"""What every call passes, in order: request id, deadline, credentials, role, limits, errors."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from image_categorizer_server.access.roles import RpcAccess, authorize
from image_categorizer_server.access.session import COOKIES_HEADER
from image_categorizer_server.backend import Backend
from image_categorizer_server.domain.audit import Actor, current_actor
from image_categorizer_server.domain.tenant import bind_tenant, unbind_tenant
from image_categorizer_server.errors import (
    CategorizerError,
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    Unauthenticated,
    Unavailable,
)
from image_categorizer_server.rpc.address import client_address, network_of
from image_categorizer_server.rpc.call import Call, current_call, send
from image_categorizer_server.rpc.encryption import shows_name
from image_categorizer_server.rpc.limit import limit_fields
from image_categorizer_server.rpc.messages import (
    deserializer_of,
    only_request,
    readable,
    refusing_unreadable,
)
from image_categorizer_server.rpc.status import abort, abort_stream, error_for_caller
from image_categorizer_server.services.limit import refusal_of
from image_categorizer_server.tasks import detached
from image_categorizer_server.telemetry import bind_request, get_log, request_id_of, trace_id_of
from image_categorizer_server.telemetry.metrics import CALL_DURATION, CALLS, ERRORS, IN_FLIGHT, OK
from image_categorizer_server.telemetry.tracing import begin_call, end_call

log = get_log(__name__)
Context = grpc.aio.ServicerContext[Message, Message]
Headers = dict[str, str]
Unary = Callable[[Message, Context], Awaitable[Message]]
Stream = Callable[[AsyncIterator[Message], Context], Awaitable[None]]
Upload = Callable[[AsyncIterator[Message], Context], Awaitable[Message]]
Download = Callable[[Message, Context], AsyncGenerator[Message]]
Sending = Callable[[AsyncIterator[Message], Context], Awaitable[None]]
Answer = TypeVar("Answer")
Serve = Callable[[AsyncIterator[Message], Context], Awaitable[Answer]]
# The number of the attempt, counted from 1: the gateway's, and the SDK's.
ATTEMPT_HEADERS = "x-envoy-attempt-count", "x-attempt"
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # not subscriptable at run time
# Services of libraries. Some of their methods are streams that last for ever.
FOREIGN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every call of our own services."""

    def __init__(self, backend: Backend, access: Mapping[str, RpcAccess]) -> None:
        """Prepares to wrap calls.

        Args:
            backend: authenticates callers, and says whether the server stops.
            access: who may call each RPC, by its path.
        """
        self._backend = backend
        self._access = access
        self._gateways = backend.settings.server.gateway_networks
        tls = backend.settings.internal_tls
        self._gateway_name = tls.gateway_name if tls.path else ""
        self._logs_calls = backend.settings.log_level == "DEBUG"
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Returns the wrapped handler; None if there is no such method."""
        method = handler_call_details.method
        if known := self._handlers.get(method):
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        wrapped = (
            refusing_unreadable(handler)
            if method.startswith(FOREIGN)
            else self._wrapped(method, handler)
        )
        return self._handlers.setdefault(method, wrapped)

    def _wrapped(self, method: str, handler: "Handler") -> "Handler":
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _counted(method, self._stream(method, cast("Stream", handler.stream_stream))),
                request_deserializer=deserializer_of(handler),
                response_serializer=handler.response_serializer,
            )
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _counted(method, self._upload(method, cast("Upload", handler.stream_unary))),
                request_deserializer=deserializer_of(handler),
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _counted(method, self._download(method, cast("Download", handler.unary_stream))),
                request_deserializer=deserializer_of(handler),
                response_serializer=handler.response_serializer,
            )
        assert handler.unary_unary is not None
        return grpc.stream_unary_rpc_method_handler(
            _counted(method, self._unary(method, cast("Unary", handler.unary_unary))),
            request_deserializer=deserializer_of(handler),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Unary) -> Upload:
        server, access = self._backend.settings.server, self._access[method]

        async def answer(
            request: Message | InvalidRequest, context: Context, headers: Headers
        ) -> Message:
            async with self._deadline(context, server.default_deadline_s):
                if access.required_role is not None:
                    await self._enter(access, headers)
                    async with self._charged(access, access.image_count):
                        return await behaviour(readable(request), context)
                return await behaviour(readable(request), context)

        async def serve(_: AsyncIterator[Message], context: Context) -> Message:
            call, headers = self._begin(method, context)
            call.charged_image = partial(self._charged, access, 1)
            request = await only_request(context)
            try:
                response = await answer(request, context, headers)
            except Exception as error:  # noqa: BLE001 - becomes a status
                failure = self._failure(error, method, call)
            else:
                if self._logs_calls:
                    elapsed_ms = round(call.elapsed_s * 1000, 1)
                    log.debug(
                        "served", method=method, ms=elapsed_ms, client=self._shown_address(call)
                    )
                limits = limit_fields(call.decision) if call.decision else ()
                if call.fields or limits:  # only now: an error after these would be HTTP status 200
                    await context.send_initial_metadata((*call.fields, *limits))
                context.set_trailing_metadata((("x-request-id", call.request_id),))
                return response
            return await abort(context, failure, call)

        return serve

    @asynccontextmanager
    async def _deadline(self, context: Context, default_s: float) -> AsyncIterator[None]:
        """Ends the block at the deadline of the call; after `default_s` if it has none.

        Raises:
            DeadlineExceeded: the deadline passed.
        """
        remaining_s: float | None = context.time_remaining()  # None if the caller set none
        given_s = default_s if remaining_s is None else remaining_s
        within_s = min(given_s, self._backend.settings.server.max_deadline_s)
        current_call.get().deadline_s = time.monotonic() + within_s
        try:
            async with asyncio.timeout(within_s) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None

    def _stream(self, method: str, behaviour: Stream) -> Stream:
        access = self._access[method]

        async def serve(requests: AsyncIterator[Message], context: Context) -> None:
            call, headers = self._begin(method, context)
            call.readmit = partial(self._admit, access, headers)
            call.charged_image = partial(self._charged, access, 1)
            try:
                await self._enter(access, headers)
                await self._charge(access, 0)
                # Shows proxies that the call has begun, however late its first answer is.
                await context.send_initial_metadata(_first_fields(call))
                await behaviour(requests, context)
            except Exception as error:  # noqa: BLE001 - becomes a status
                failure = self._failure(error, method, call)
            else:
                return
            await abort_stream(context, failure, call)

        return serve

    def _upload(self, method: str, behaviour: Upload) -> Upload:
        """Wraps an upload. It may last as long as its client sends; only silence ends it.

        A JSON body is not sent bit by bit, so its call has a deadline, as a unary one.
        """
        server, access = self._backend.settings.server, self._access[method]
        silence_s = server.upload_idle_s

        async def serve(requests: AsyncIterator[Message], context: Context) -> Message:
            call, headers = self._begin(method, context)
            call.readmit = partial(self._admit, access, headers)
            try:
                if headers.get("x-body") == "json":
                    async with self._deadline(context, server.max_deadline_s):
                        await self._enter(access, headers)
                        await self._charge(access, 0)
                        response = await behaviour(_never_silent(requests, silence_s), context)
                else:
                    await self._enter(access, headers)
                    await self._charge(access, 0)
                    # Shows the gateway that the call has begun. It would time the upload out. JSON
                    # it has received in full; without this, an error can have any HTTP status.
                    await context.send_initial_metadata(_first_fields(call))
                    response = await behaviour(_never_silent(requests, silence_s), context)
            except Exception as error:  # noqa: BLE001 - becomes a status
                failure = self._failure(error, method, call)
            else:
                context.set_trailing_metadata((("x-request-id", call.request_id),))
                return response
            return await abort(context, failure, call)

        return serve

    def _download(self, method: str, behaviour: Download) -> Sending:
        within_s, access = self._backend.settings.server.send_timeout_s, self._access[method]

        async def serve(_: AsyncIterator[Message], context: Context) -> None:
            call, headers = self._begin(method, context)
            request = await only_request(context)
            call.readmit = partial(self._admit, access, headers)
            try:
                await self._enter(access, headers)
                await self._charge(access, 0)
                async with aclosing(behaviour(readable(request), context)) as responses:
                    async for response in responses:
                        await send(context, response, within_s)
                        if call.is_head:
                            break
            except grpc.aio.BaseError:  # the client has gone, or the server stops
                raise
            except Exception as error:  # noqa: BLE001 - becomes a status
                failure = self._failure(error, method, call)
            else:
                context.set_trailing_metadata((("x-request-id", call.request_id),))
                return
            await abort_stream(context, failure, call)

        return serve

    async def _enter(self, access: RpcAccess, headers: Headers) -> None:
        """Admits a new call.  Bad credentials are charged to its address."""
        call, limiter = current_call.get(), self._backend.limiter
        limiter.check_address(call.address)
        try:
            await self._admit(access, headers)
        except Unauthenticated:
            await limiter.penalize(call.address)
            raise

    async def _charge(self, access: RpcAccess, images: int) -> None:
        """Charges one request, of so many images.

        Raises:
            RateLimited, QuotaExceeded: a limit refuses it.
            DependencyDown: the limits cannot be checked, and the RPC is refused for it.
        """
        call = current_call.get()
        assert call.principal is not None
        call.decision = await self._backend.limiter.charge(
            call.principal, call.address, images, is_administration=access.is_administration
        )
        if call.decision and call.decision.refused_by:
            raise refusal_of(call.decision)

    @asynccontextmanager
    async def _charged(self, access: RpcAccess, images: int) -> AsyncIterator[None]:
        """Charges one request.  Gives its images back if the block cannot serve it now.

        Raises:
            CategorizerError: see `_charge`.
        """
        await self._charge(access, images)
        try:
            yield
        except Unavailable:
            call = current_call.get()
            if images and call.decision:
                await self._backend.limiter.give_back_images(call.tenant_id, images)
            raise

    async def _admit(self, access: RpcAccess, headers: Headers) -> None:
        if self._backend.refusing.is_set():
            raise Draining("this server is stopping")
        call = current_call.get()
        header, principal = headers.get("authorization"), None
        if header is None and COOKIES_HEADER in headers:
            principal = await self._backend.sign_ins.authenticate(headers)
        if principal is None:
            principal = await self._backend.authenticator.authenticate(header, call.address)
        call.principal = principal
        authorize(principal, access)
        address = self._shown_address(call)
        current_actor.set(Actor(principal.actor_id, call.request_id, address))
        bind_tenant(call.tenant_id)

    def _failure(self, error: Exception, method: str, call: Call) -> CategorizerError:
        """Returns what the caller sees of an error; a refusal becomes an event of the audit."""
        failure = error_for_caller(error, method, call)
        call.code = failure.status
        ERRORS.labels(failure.reason).inc()
        actor = Actor(request_id=call.request_id, address=self._shown_address(call))
        self._backend.refusals.add(failure, method.rpartition("/")[2], call.principal, actor)
        return failure

    def _begin(self, method: str, context: Context) -> tuple[Call, Headers]:
        """Binds a new call to the current task; returns it with the headers."""
        headers: Headers = {}
        for name, value in context.invocation_metadata() or ():
            if not isinstance(value, str):
                continue
            if name == "authorization" and name in headers:
                # As RFC 9110, section 5.3, joins them: one of two credentials is not picked.
                headers[name] += f", {value}"
            else:
                headers[name] = value
        call = Call(
            request_id_of(headers.get("x-request-id")),
            self._address_of(context, headers),
            is_head=headers.get("x-http-method") == "HEAD",
            body_encoding=headers.get("x-body-encoding", ""),
            is_repeated=any(headers.get(name, "1") != "1" for name in ATTEMPT_HEADERS),
        )
        call.span = begin_call(method, headers)
        given = headers.get("traceparent")
        bind_request(call.request_id, call.span.trace_id if call.span else trace_id_of(given))
        unbind_tenant()
        current_call.set(call)
        return call, headers

    def _shown_address(self, call: Call) -> str:
        """Returns the address that the audit and the log have."""
        truncates = self._backend.settings.privacy.truncate_addresses
        return network_of(call.address) if truncates else call.address

    def _address_of(self, context: Context, headers: Headers) -> str:
        name = self._gateway_name
        believed = headers if not name or shows_name(context.auth_context(), name) else {}
        return client_address(context.peer(), believed, self._gateways)


def _counted(method: str, serve: Serve[Answer]) -> Serve[Answer]:
    """Returns a handler that counts its calls in the metrics."""
    duration = CALL_DURATION.labels(method)

    async def counted(requests: AsyncIterator[Message], context: Context) -> Answer:
        start_s = time.perf_counter()
        IN_FLIGHT.inc()
        try:
            answer = await serve(requests, context)
            current_call.get().code = OK
            return answer
        finally:
            IN_FLIGHT.dec()
            duration.observe(time.perf_counter() - start_s)
            call = current_call.get()
            CALLS.labels(method, call.code).inc()
            end_call(call.span, call.code)

    return counted


def _first_fields(call: Call) -> tuple[tuple[str, str], ...]:
    """Returns the initial metadata of a stream."""
    limits = limit_fields(call.decision) if call.decision else ()
    return ("x-request-id", call.request_id), *limits


async def _never_silent(
    requests: AsyncIterator[Message], silence_s: float
) -> AsyncIterator[Message]:
    """Yields what the client sends.

    Raises:
        DeadlineExceeded: nothing arrived for `silence_s` seconds.
    """
    while (message := await _next_within(requests, silence_s)) is not None:
        yield message


async def _next_within(requests: AsyncIterator[Message], silence_s: float) -> Message | None:
    # gRPC cannot cancel a read: after a time-out it ends with the call.
    reading = detached(_next(requests))
    await asyncio.wait({reading}, timeout=silence_s)
    if not reading.done():
        raise DeadlineExceeded(f"nothing arrived for {silence_s:g} seconds")
    return reading.result()


async def _next(requests: AsyncIterator[Message]) -> Message | None:
    return await anext(requests, None)
