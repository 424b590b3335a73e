"""Traces: which are recorded, what their spans hold, and how they reach a receiver."""

import subprocess
import sys
import threading
import time

import pytest
from image_categorizer_server.telemetry.otlp import STOP_S, Sender
from image_categorizer_server.telemetry.tracing import (
    begin_call,
    current_traceparent,
    end_call,
    recorded_span,
    sending_traces,
    timed,
    traced,
    traced_together,
)

from tests.support.traces import receiving_traces

METHOD = "/image_categorizer.v1.ClassifyService/Classify"
CALL = ("test", METHOD.removeprefix("/"))
TRACE, PARENT = "a" * 32, "b" * 16


def header(*, is_sampled: bool) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE}-{PARENT}-0{int(is_sampled)}"}


@pytest.fixture
def traces():
    with receiving_traces() as running:
        yield running


def test_without_a_receiver_nothing_is_recorded_nor_imported():
    with sending_traces("", 1.0, "test"), traced("a step") as span:
        assert span is None
        assert begin_call(METHOD, header(is_sampled=True)) is None
        assert current_traceparent() == ""
        assert recorded_span() is None
    code = (
        "import sys, image_categorizer_server.telemetry.tracing\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("ratio", "headers", "is_recorded"),
    [
        (0.0, {}, False),
        (1.0, {}, True),
        (0.0, header(is_sampled=True), True),
        (1.0, header(is_sampled=False), False),
        (1.0, {"traceparent": "nonsense"}, True),
    ],
)
def test_a_trace_is_recorded_by_ratio_or_as_its_caller_does(ratio, headers, is_recorded):
    with sending_traces("http://127.0.0.1:9", ratio, "test"):
        span = begin_call(METHOD, headers)
        assert (recorded_span() is not None) is is_recorded
        assert (span.trace_id == TRACE) is (headers.get("traceparent", "").startswith("00-"))
        assert current_traceparent() == span.traceparent
        assert int(span.traceparent[-2:], 16) % 2 == is_recorded


def test_steps_of_a_call_are_its_children_and_images_link_to_their_micro_batch(traces):
    with sending_traces(traces.endpoint, 0.0, "test"):
        call = begin_call(METHOD, header(is_sampled=True))
        assert timed("decode", call, lambda size: size + 1)(1) == 2
        with traced("another call", traceparent=call.traceparent) as other:
            pass
        with traced_together("micro-batch", [call, other], {"size": 2}):
            pass
        end_call(call, "OK")
    spans = traces.of(TRACE)
    whole, micro_batch = spans[CALL], spans["test", "micro-batch"]
    assert (whole.kind, whole.parent_id, whole.has_failed) == ("SERVER", PARENT, False)
    assert whole.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": CALL[1],
        "rpc.response.status_code": "OK",
    }
    assert spans["test", "decode"].parent_id == micro_batch.parent_id == whole.span_id
    assert (TRACE, micro_batch.span_id) in whole.links
    assert micro_batch.links == ((TRACE, spans["test", "another call"].span_id),)
    assert micro_batch.attributes == {"size": 2}


@pytest.mark.parametrize(("code", "has_failed"), [("INTERNAL", True), ("NOT_FOUND", False)])
def test_only_faults_of_the_server_are_errors(traces, code, has_failed):
    with sending_traces(traces.endpoint, 1.0, "test"):
        end_call(begin_call(METHOD, header(is_sampled=True)), code)
    span = traces.of(TRACE)[CALL]
    assert span.has_failed is has_failed
    assert span.attributes.get("error.type") == (code if has_failed else None)


def test_an_error_is_recorded_by_its_name_without_its_message(traces):
    with (
        sending_traces(traces.endpoint, 1.0, "test"),
        pytest.raises(ValueError, match="Maria"),
        traced("a step", traceparent=header(is_sampled=True)["traceparent"]),
    ):
        raise ValueError("Maria.jpg is no image")
    span = traces.of(TRACE)["test", "a step"]
    assert span.has_failed
    assert span.attributes == {"error.type": "ValueError"}


def test_a_part_with_a_trace_of_its_own_links_to_where_it_comes_from(traces):
    with sending_traces(traces.endpoint, 1.0, "test"):
        stream = begin_call(METHOD, header(is_sampled=True))
        with traced("item", "consumer", traceparent="") as item:
            assert item.trace_id != TRACE
        end_call(stream, "OK")
    span = traces.of(item.trace_id)["test", "item"]
    assert span.parent_id == ""
    assert span.links == ((TRACE, traces.of(TRACE)[CALL].span_id),)


def test_a_receiver_that_hangs_does_not_hold_the_end_up(traces):
    traces.answers.clear()
    sender = Sender(traces.endpoint, 1.0, "test")
    sender.start("a step", "internal", None).end()
    begin_s = time.monotonic()
    assert not sender.close()
    assert time.monotonic() - begin_s < STOP_S + 1
    traces.answers.set()
    (last,) = [thread for thread in threading.enumerate() if thread.name == "last spans"]
    last.join(30)
