"""Spans by OpenTelemetry, sent by OTLP over gRPC.  Only `tracing` imports this module, and late.

Spans wait in a bounded queue for a thread that sends them; beyond its bound they are dropped.
"""

import secrets
import threading
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from image_categorizer_server.telemetry.log import TRACEPARENT
from image_categorizer_server.version import VERSION

QUEUE_SPANS = 4096
EXPORT_S = 5.0
STOP_S = 2.0
"""Maximum time that the last spans have when the process stops."""
KINDS = {kind.name.lower(): kind for kind in trace.SpanKind}
Attributes = Mapping[str, str | int | float | bool]


class Span:
    """A step of a request, of which the trace shows when it began and ended.

    Safe to use from any thread.
    """

    __slots__ = ("_span", "context", "is_recorded")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.context = span.get_span_context()
        self.is_recorded = span.is_recording()
        """Whether it will be sent: false if the trace is not sampled."""

    @property
    def trace_id(self) -> str:
        """The id of its trace, 32 hexadecimal digits."""
        return trace.format_trace_id(self.context.trace_id)

    @property
    def traceparent(self) -> str:
        """Names it to another process, in the form of W3C Trace Context."""
        span_id = trace.format_span_id(self.context.span_id)
        return f"00-{self.trace_id}-{span_id}-{self.context.trace_flags:02x}"

    def note(self, attributes: Attributes) -> None:
        """Adds attributes."""
        if self._span.is_recording():
            self._span.set_attributes(attributes)

    def link(self, other: "Span") -> None:
        """Refers to a span that works for several requests."""
        if self._span.is_recording():
            self._span.add_link(other.context)

    def fail(self, kind: str) -> None:
        """Marks it as failed, by a status or the name of an exception: messages may name people."""
        self.note({"error.type": kind})
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        """Ends it now."""
        self._span.end()


class Sender:
    """Makes spans and sends them."""

    def __init__(self, endpoint: str, ratio: float, service: str) -> None:
        """Starts the thread that sends.

        Args:
            endpoint: http://host:port or https://host:port of a receiver of OTLP over gRPC.
            ratio: share of the traces that are recorded, of those that begin here; in [0, 1].
            service: name of the program, by which receivers group spans.
        """
        self._endpoint = endpoint
        resource = Resource.create(
            {
                "service.name": service,
                "service.version": VERSION,
                "service.instance.id": secrets.token_hex(8),
            }
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=resource,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS))
        self._tracer = self._provider.get_tracer("image_categorizer", VERSION)

    def start(
        self,
        name: str,
        kind: str,
        parent: Span | str | None,
        attributes: Attributes | None = None,
        links: Sequence[Span] = (),
    ) -> Span:
        """Starts a span.

        Args:
            name: of few different ones.
            kind: `internal`, `server`, `client`, `producer` or `consumer`.
            parent: a span of this process, or a header `traceparent` of another process; None or
                a malformed header begins a trace.
            attributes: known from the start.
            links: spans of other requests that it works for.
        """
        known = parent.context if isinstance(parent, Span) else _context_of(parent)
        if known is None:
            context = Context()
        elif not known.trace_flags.sampled:  # nothing of it is recorded, so its own ids will do
            return Span(trace.NonRecordingSpan(known))
        else:
            context = trace.set_span_in_context(trace.NonRecordingSpan(known), Context())
        linked = [trace.Link(span.context) for span in links]
        return Span(self._tracer.start_span(name, context, KINDS[kind], attributes, linked))

    def close(self) -> bool:
        """Sends what waits, for `STOP_S` at most; returns whether all of it was sent in time."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True, name="last spans")
        thread.start()
        thread.join(STOP_S)
        return not thread.is_alive()


def _context_of(traceparent: str | None) -> trace.SpanContext | None:
    """Returns the span that a header names; None if there is none, or it is malformed."""
    match = TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(flags))
