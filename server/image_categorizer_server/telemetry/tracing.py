"""Traces: what each step of a request took, in all processes that it passes.

    gateway ─▶ server: call ─▶ decode, micro-batch
                        └─ row of a batch, or of the outbox ─▶ worker: chunk ─▶ webhook

Off by default: then nothing of OpenTelemetry is even imported.  Whether a trace is recorded is
decided where it begins, and all that follow do the same.

Attributes hold no image, key, file name, URL or id of a person, and nothing that a caller wrote:
methods are those of the contract, models those that an administrator has added.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TypeVar

from image_categorizer_server.telemetry.log import bind_trace, get_log

if TYPE_CHECKING:
    from image_categorizer_server.telemetry.otlp import Attributes, Sender, Span

log = get_log(__name__)
Kind = Literal["internal", "server", "client", "consumer"]
Made = TypeVar("Made")
# What the conventions of OpenTelemetry count as errors of a gRPC server; the others are the
# caller's.
SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_senders: "list[Sender]" = []
"""One while traces are sent, otherwise none."""
_current: "ContextVar[Span | None]" = ContextVar("span", default=None)


@contextmanager
def sending_traces(endpoint: str, ratio: float, service: str) -> Iterator[None]:
    """Sends spans until the block ends, and then what waits; does nothing without an endpoint.

    Args:
        endpoint: http://host:port or https://host:port of a receiver of OTLP over gRPC.
        ratio: share of the traces that are recorded, of those that begin here; in [0, 1].
        service: name of the program.
    """
    if not endpoint:
        yield
        return
    from image_categorizer_server.telemetry.otlp import Sender

    sender = Sender(endpoint, ratio, service)
    _senders.append(sender)
    try:
        yield
    finally:
        _senders.remove(sender)
        if not sender.close():
            log.warning("the last spans are lost: the receiver of traces does not answer in time")


def begin_call(method: str, headers: Mapping[str, str]) -> "Span | None":
    """Starts the span of an RPC, in the trace that its headers name; None if traces are off.

    Later spans of the task become its children.

    Args:
        method: path of the RPC.
        headers: names in lower case.
    """
    if not _senders:
        return None
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    span = _senders[0].start(name, "server", headers.get("traceparent"), attributes)
    _current.set(span)
    return span


def end_call(span: "Span | None", code: str) -> None:
    """Ends the span of an RPC with the name of its gRPC status."""
    if span is None:
        return
    if span.is_recorded:
        span.note({"rpc.response.status_code": code})
        if code in SERVER_FAULTS:
            span.fail(code)
    span.end()


@contextmanager
def traced(
    name: str,
    kind: Kind = "internal",
    attributes: "Attributes | None" = None,
    *,
    traceparent: str | None = None,
) -> "Iterator[Span | None]":
    """Records the block as a span; yields None if traces are off.

    Args:
        name: of few different ones.
        kind: what the block does for the trace.
        attributes: known from the start.
        traceparent: names the span of another process or task that it continues; empty begins a
            trace, which links to the span of this task; None makes a child of that span.
    """
    if not _senders:
        yield None
        return
    outer = _current.get()
    if traceparent is None:
        span = _senders[0].start(name, kind, outer, attributes)
    else:
        links = [outer] if outer and not traceparent else []
        span = _senders[0].start(name, kind, traceparent, attributes, links)
        bind_trace(span.trace_id)
    token = _current.set(span)
    try:
        yield span
    except Exception as error:
        span.fail(type(error).__name__)
        raise
    finally:
        _current.reset(token)
        span.end()


@contextmanager
def traced_together(name: str, spans: "Sequence[Span]", attributes: "Attributes") -> Iterator[None]:
    """Records the block as one span of several requests, to which their spans link.

    It is a child of the first, so it is recorded as that is, and links to the others.

    Args:
        name: of few different ones.
        spans: those of the requests that are recorded; without any, nothing is.
        attributes: known from the start.
    """
    if not spans or not _senders:
        yield
        return
    shared = _senders[0].start(name, "internal", spans[0], attributes, spans[1:])
    for span in spans:
        span.link(shared)
    try:
        yield
    finally:
        shared.end()


def timed(name: str, parent: "Span", work: Callable[..., Made]) -> Callable[..., Made]:
    """Returns `work` so that each call of it, in any thread, is a span below `parent`."""

    def run(*values: object) -> Made:
        if not _senders:
            return work(*values)
        span = _senders[0].start(name, "internal", parent)
        try:
            return work(*values)
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()

    return run


def recorded_span() -> "Span | None":
    """Returns the span of the current task if it is recorded."""
    span = _current.get()
    return span if span is not None and span.is_recorded else None


def current_traceparent() -> str:
    """Returns the header that names the span of the current task; empty if there is none."""
    span = _current.get()
    return span.traceparent if span is not None else ""
