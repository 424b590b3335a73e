"""How a call that sends messages ended."""

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import grpc

from image_categorizer._statuses import BROKEN, from_rpc_error
from image_categorizer.errors import CategorizerError

T = TypeVar("T")


class Call(Protocol):
    """The part of a grpc.aio call that says how it ended."""

    def add_done_callback(self, callback: Any) -> None: ...
    async def code(self) -> grpc.StatusCode: ...
    async def details(self) -> str: ...
    async def trailing_metadata(self) -> grpc.aio.Metadata: ...


class Ending:
    """Keeps the status that the server sent.

    If a message is on its way when that status arrives, grpc.aio replaces the status with one of
    its own, which says nothing about the server.  It calls the callbacks of the call both times.
    """

    def __init__(self, call: Call) -> None:
        """Watches a call that has just begun."""
        self._status: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    def error(self, raised: grpc.RpcError) -> CategorizerError:
        """Returns the error of the call.

        Args:
            raised: what a method of the call raised.
        """
        return from_rpc_error(self._status or raised)

    def _note(self, call: Call) -> None:
        code, details = _value(call.code()), _value(call.details())
        if code is not grpc.StatusCode.OK and details != BROKEN:
            trailing = _value(call.trailing_metadata())
            self._status = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _value(coroutine: Coroutine[Any, Any, T]) -> T:
    """Returns the value of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise RuntimeError("gRPC says that a call is done before it knows its status")
