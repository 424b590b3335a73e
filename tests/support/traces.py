"""A receiver of traces: the service of OTLP, by gRPC, on a port of this machine."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.polling import wait_until


@dataclass(frozen=True)
class Received:
    """A span, and the program that sent it."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty if it begins its trace."""
    attributes: dict[str, object]
    links: tuple[tuple[str, str], ...]
    """Trace and span ids."""
    has_failed: bool
    seconds: float


@dataclass
class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it receives."""

    port: int
    spans: list[Received] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)
    """Without it, the receiver takes spans and answers nothing."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(self, request, context):  # noqa: N802 - gRPC names it
        self.answers.wait(60)
        found = [
            _received(str(_attributes(sent.resource.attributes)["service.name"]), span)
            for sent in request.resource_spans
            for scope in sent.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.spans += found
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, trace_id: str) -> dict[tuple[str, str], Received]:
        """Returns the spans of a trace, by service and name."""
        with self._lock:
            return {(s.service, s.name): s for s in self.spans if s.trace_id == trace_id}

    def await_spans(
        self, trace_id: str, *names: tuple[str, str], within_s: float = 30
    ) -> dict[tuple[str, str], Received]:
        """Returns the spans of a trace once these are among them: pairs of service and name."""
        wait_until(lambda: set(names) <= set(self.of(trace_id)), within_s, 0.1)
        return self.of(trace_id)


@contextmanager
def receiving_traces() -> Iterator[Traces]:
    """Runs a receiver during the block."""
    server = grpc.server(ThreadPoolExecutor(4))
    traces = Traces(server.add_insecure_port("127.0.0.1:0"))
    traces.answers.set()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(traces, server)
    server.start()
    try:
        yield traces
    finally:
        server.stop(1).wait(5)


def _received(service: str, span: WireSpan) -> Received:
    return Received(
        service=service,
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        has_failed=span.status.code == Status.STATUS_CODE_ERROR,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None
