"""Deserialization of requests.

grpc.aio answers bytes that are no message with UNKNOWN and the exception's text, and logs a
traceback. It never answers a unary call that ends before its message is complete, and ignores all
messages but the first. Here these become an `InvalidRequest`: so grpc.aio takes RPCs with one
request for streams, and we read their request.
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


async def only_request(context: Context) -> Message | InvalidRequest:
    """Returns the request of an RPC that has one; in its place, what is wrong with it.

    An error is returned because others take precedence over it, that of a missing key for instance.
    """
    read: Callable[[], Awaitable[Any]] = context.read  # its type omits the end of the stream
    try:
        request = await read()
        if request is grpc.aio.EOF:
            return InvalidRequest(
                "the request cannot be read: it ends before its message does, or has none; "
                "a JSON body must be complete"
            )
        if await read() is not grpc.aio.EOF:
            return InvalidRequest("the request cannot be read: it has more than one message")
    except InvalidRequest as error:
        return error
    return cast("Message", request)


def readable(request: Message | InvalidRequest) -> Message:
    """Returns the request that `only_request` has read.

    Raises:
        InvalidRequest: it cannot be read.
    """
    if isinstance(request, InvalidRequest):
        raise request
    return request


def deserializer_of(handler: "Handler") -> Deserializer:
    """Returns the deserializer of an RPC, which raises `InvalidRequest`."""
    deserialize: Deserializer = handler.request_deserializer  # type: ignore[assignment]

    def checked(content: bytes) -> Message:
        try:
            return deserialize(content)
        except DecodeError:
            raise InvalidRequest(
                "the request cannot be read: its text must be UTF-8, "
                "and its bytes a message of the RPC's request type"
            ) from None

    return checked


def refusing_unreadable(handler: "Handler") -> "Handler":
    """Returns the handler of a library's service, which answers unreadable requests as ours do."""
    deserialize = deserializer_of(handler)
    if handler.stream_stream is not None:
        make: Any = grpc.stream_stream_rpc_method_handler
        behaviour: Any = _refusing_messages(cast("Any", handler.stream_stream))
    elif handler.unary_stream is not None:
        make = grpc.stream_stream_rpc_method_handler
        behaviour = _refusing_request(cast("Any", handler.unary_stream))
    else:
        make = grpc.stream_unary_rpc_method_handler
        behaviour = _refusing_request(cast("Any", handler.unary_unary))
    wrapped: Handler = make(
        behaviour,
        request_deserializer=deserialize,
        response_serializer=handler.response_serializer,
    )
    return wrapped


def _refusing_request(
    behaviour: Callable[[Message, Context], Awaitable[Message | None]],
) -> Callable[[AsyncIterator[Message], Context], Awaitable[Message | None]]:
    async def serve(_: AsyncIterator[Message], context: Context) -> Message | None:
        request = await only_request(context)
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
