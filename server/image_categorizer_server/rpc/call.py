"""The call that the current task serves."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from image_categorizer_server.domain.access import Principal
from image_categorizer_server.domain.limit import Decision
from image_categorizer_server.errors import DeadlineExceeded
from image_categorizer_server.telemetry.metrics import CANCELLED

if TYPE_CHECKING:
    from image_categorizer_server.telemetry.otlp import Span

Sent = TypeVar("Sent")


@dataclass(slots=True)
class Call:
    """One RPC, or one item of a stream, from its arrival."""

    request_id: str
    address: str = ""
    """The IP address of the client; empty if it calls over a unix socket."""
    principal: Principal | None = None
    """Set by authentication; None for public RPCs."""
    deadline_s: float = math.inf
    """When the answer must be ready, on the clock of `time.monotonic`."""
    on_behalf_of: str = ""
    """The tenant that a worker names; empty for the caller's own."""
    on_behalf_of_key: str = ""
    """The API key that a worker names."""
    is_head: bool = False
    """Whether a REST client asks for the headers of the answer only."""
    body_encoding: str = ""
    """How the body of a REST client is compressed: `gzip`, or not at all."""
    is_repeated: bool = False
    """Whether an earlier call with the same content was cut off."""
    http_status: int = 0
    """What a REST client gets if the call fails; 0 for what follows from the gRPC status."""
    fields: tuple[tuple[str, str], ...] = ()
    """More headers of the answer, if the call succeeds; of unary RPCs only."""
    readmit: Callable[[], Awaitable[None]] | None = None
    """Repeats authentication and authorization. Only streams last long enough to need it."""
    code: str = CANCELLED
    """Name of the gRPC status that the call ends with, for the metrics."""
    decision: Decision | None = None
    """What the limits said of the call; None if none applies."""
    charged_image: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """Charges one more image, which the block serves; raises if it exceeds a limit."""
    span: "Span | None" = None
    """Records the call in its trace; None if traces are off."""
    start_s: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the arrival."""
        return time.perf_counter() - self.start_s

    @property
    def tenant_id(self) -> str:
        """The tenant that the call is for: the caller's own, or the one that a worker names."""
        assert self.principal is not None, "public RPCs have no tenant"
        return self.on_behalf_of or self.principal.tenant_id

    @property
    def key_id(self) -> str:
        """Who the usage is attributed to: the caller, or the key that a worker names."""
        assert self.principal is not None, "public RPCs use nothing"
        return self.on_behalf_of_key or self.principal.actor_id


current_call: ContextVar[Call] = ContextVar("current_call")


def current_tenant() -> str:
    """Returns the tenant of the current call."""
    return current_call.get().tenant_id


def readmission() -> Callable[[], Awaitable[None]]:
    """Returns what repeats authentication and authorization of the current call, a stream."""
    readmit = current_call.get().readmit
    assert readmit is not None, "only streams are readmitted"
    return readmit


async def send(
    context: grpc.aio.ServicerContext[Any, Sent], message: Sent, within_s: float
) -> None:
    """Sends one message of a stream.

    Raises:
        DeadlineExceeded: the client took nothing for `within_s` seconds. HTTP/2 flow control lets
            it keep us waiting for as long as it likes.
    """
    try:
        async with asyncio.timeout(within_s):
            await context.write(message)
    except TimeoutError:
        raise DeadlineExceeded(f"no message was received for {within_s:g} seconds") from None
