"""Deserialization of requests.

grpc.aio answers bytes that are no message with UNKNOWN and the exception's text, and logs a
traceback. Here they become an `InvalidRequest`. If an RPC has one request, grpc.aio deserializes it
before it calls us, so the error takes the place of the request. Messages of streams are
deserialized while we read, so the error is raised.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError, Message

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.call import Call
from image_categorizer_server.rpc.status import abort
from image_categorizer_server.telemetry import request_id_of

Context = grpc.aio.ServicerContext[Message, Message]
Deserializer = Callable[[bytes], Message]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # not subscriptable at run time


def readable(request: Message | InvalidRequest) -> Message:
    """Returns the only request of an RPC.

    Raises:
        InvalidRequest: its bytes are not a message.
    """
    if isinstance(request, InvalidRequest):
        raise request
    return request


def deserializer_of(handler: "Handler") -> Callable[[bytes], Message | InvalidRequest]:
    """Returns the deserializer of an RPC, whose errors are `InvalidRequest`."""
    deserialize: Deserializer = handler.request_deserializer  # type: ignore[assignment]

    def raising(content: bytes) -> Message:
        try:
            return deserialize(content)
        except DecodeError:
            raise InvalidRequest(
                "the request cannot be read: its text must be UTF-8, "
                "and its bytes a message of the RPC's request type"
            ) from None

    def returning(content: bytes) -> Message | InvalidRequest:
        try:
            return raising(content)
        except InvalidRequest as error:
            return error

    return raising if handler.request_streaming else returning


def refusing_unreadable(handler: "Handler") -> "Handler":
    """Returns the handler of a library's service, which answers unreadable requests as ours do."""
    deserialize = deserializer_of(handler)
    if handler.stream_stream is not None:
        make: Any = grpc.stream_stream_rpc_method_handler
        behaviour: Any = _refusing_messages(cast("Any", handler.stream_stream))
    elif handler.unary_stream is not None:
        make = grpc.unary_stream_rpc_method_handler
        behaviour = _refusing_request(cast("Any", handler.unary_stream))
    else:
        make = grpc.unary_unary_rpc_method_handler
        behaviour = _refusing_request(cast("Any", handler.unary_unary))
    wrapped: Handler = make(
        behaviour,
        request_deserializer=deserialize,
        response_serializer=handler.response_serializer,
    )
    return wrapped


def _refusing_request(
    behaviour: Callable[[Message, Context], Awaitable[Message | None]],
) -> Callable[[Message | InvalidRequest, Context], Awaitable[Message | None]]:
    async def serve(request: Message | InvalidRequest, context: Context) -> Message | None:
        if isinstance(request, InvalidRequest):
            await abort(context, request, Call(request_id_of(None)))
        return await behaviour(request, context)

    return serve


def _refusing_messages(
    behaviour: Callable[[AsyncIterator[Message], Context], AsyncIterator[Message]],
) -> Callable[[AsyncIterator[Message], Context], AsyncGenerator[Message]]:
    async def serve(requests: AsyncIterator[Message], context: Context) -> AsyncGenerator[Message]:
        try:
            async for response in behaviour(requests, context):
                yield response
        except InvalidRequest as error:
            await abort(context, error, Call(request_id_of(None)))

    return serve
