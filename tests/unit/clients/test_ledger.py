"""The ledger of a stream: what is sent, answered, to be sent again."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from image_categorizer import (
    CategorizerError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from image_categorizer._ledger import (
    MAX_OPEN,
    MAX_SENDS,
    Ledger,
)
from image_categorizer._retries import (
    MAX_FAILED_CALLS,
    MAX_LOSSES,
    MAX_RETRY_AFTER_S,
    ended_early,
)
from image_categorizer._statuses import from_status
from image_categorizer._wire import stream_config
from image_categorizer.v1.classify_pb2 import ClassifyResponse, ClassifyStreamResponse

MAX_BYTES = 100


@pytest.fixture
def ledger():
    return new_ledger()


def new_ledger(on_disconnect=None):
    return Ledger(stream_config({"top_k": 2}, "BATCH", ""), on_disconnect)


def answer(key, code=0, retry_s=0.0, reason=""):
    if not code:
        return ClassifyStreamResponse(key=key, response=ClassifyResponse(success=True))
    retry, packed = RetryInfo(), Any()
    retry.retry_delay.FromNanoseconds(int(retry_s * 1e9))
    packed.Pack(retry)
    info = Any()
    info.Pack(ErrorInfo(reason=reason))
    return ClassifyStreamResponse(key=key, status=Status(code=code, details=[packed, info]))


def test_the_first_message_holds_options_and_lane(ledger):
    config = ledger.config.config
    assert (config.options.top_k, config.lane) == (2, config.BATCH)


def test_a_call_that_ends_early_gives_back_unanswered_images_in_order(ledger):
    for key in "abcd":
        ledger.take((key, b"x"))
    items = [ledger.next_item() for _ in range(3)]
    assert ledger.answered(answer(items[1].wire_key), "id").key == "b"
    assert ledger.ended(Unavailable("gone")) == pytest.approx(0.2, rel=0.21)
    assert [ledger.next_item().key for _ in range(3)] == ["a", "c", "d"]
    assert ledger.next_item() is None
    assert not ledger.is_finished


def test_an_answer_that_comes_twice_counts_once(ledger):
    ledger.take(("a", b"x"))
    item = ledger.next_item()
    assert ledger.answered(answer(item.wire_key), "id") is not None
    assert ledger.answered(answer(item.wire_key), "id") is None
    assert ledger.failed(item, OSError()) is None


def test_a_failed_image_that_a_call_gave_back_is_not_sent_again(ledger):
    ledger.take(("a", b"x"))
    ledger.exhaust()
    item = ledger.next_item()
    ledger.ended(Unavailable("gone"))
    assert ledger.failed(item, OSError("gone")).error is not None
    assert ledger.next_item() is None
    assert ledger.is_finished


def test_a_busy_server_is_retried_after_its_delay_and_not_for_ever(ledger):
    ledger.take(("a", b"x"))
    for _ in range(MAX_SENDS - 1):
        item = ledger.next_item()
        assert ledger.answered(answer(item.wire_key, 14, 3), "id") is None
        assert 3 < ledger.pause_s() < 6
    result = ledger.answered(answer(ledger.next_item().wire_key, 14, 3), "mine")
    assert isinstance(result.error, Unavailable)
    assert not isinstance(result.error, Overloaded)
    assert (result.error.request_id, result.error.retry_after_s) == ("mine", 3)
    assert (result.category, result.confidence, result.predictions) == (None, None, ())


def test_an_image_over_the_rate_limit_is_sent_until_the_limit_allows_it(ledger):
    ledger.take(("a", b"x"))
    for _ in range(3 * MAX_SENDS):
        limited = answer(ledger.next_item().wire_key, 8, 0.5, "RATE_LIMITED")
        assert ledger.answered(limited, "id") is None
        assert 0.4 < ledger.pause_s() < 1
    too_long = answer(ledger.next_item().wire_key, 8, MAX_RETRY_AFTER_S + 1, "RATE_LIMITED")
    assert isinstance(ledger.answered(too_long, "id").error, RateLimited)
    ledger.take(("b", b"x"))
    used_up = answer(ledger.next_item().wire_key, 8, 0.5, "QUOTA_EXCEEDED")
    assert isinstance(ledger.answered(used_up, "id").error, QuotaExceeded)


def test_ten_calls_in_a_row_without_an_answer_are_the_last(ledger):
    for _ in range(MAX_FAILED_CALLS - 1):
        assert ledger.ended(Unavailable("gone")) > 0
    with pytest.raises(Unavailable, match="gone"):
        ledger.ended(Unavailable("gone"))


@pytest.mark.parametrize(
    ("status", "request_id", "again"),
    [
        ("INTERNAL", "", True),
        ("INTERNAL", "from-the-server", False),
        ("UNAUTHENTICATED", "", False),
    ],
)
def test_a_disconnect_is_retried_and_a_refusal_is_raised(ledger, status, request_id, again):
    error = lost(status, request_id)
    if again:
        assert ledger.ended(error) > 0
    else:
        with pytest.raises(CategorizerError):
            ledger.ended(error)


def test_the_number_of_open_images_is_limited(ledger):
    for number in range(MAX_OPEN):
        assert ledger.can_take
        ledger.take((str(number), b"x"))
    assert not ledger.can_take
    assert ledger.given() == 1
    assert ledger.can_take


def test_the_bytes_of_open_images_are_limited(ledger):
    for key in "ab":
        ledger.take((key, bytes(40 << 20)))
        ledger.next_item().request(50 << 20)
    assert not ledger.can_take


@pytest.mark.parametrize("wrong", [None, 7, ("a",), (b"a", b"b"), ("a", "b"), b"bytes"])
def test_a_source_is_a_path_or_a_name_and_bytes(ledger, wrong):
    with pytest.raises(TypeError):
        ledger.take(wrong)


def test_a_file_is_read_when_it_is_sent(ledger, tmp_path):
    file = tmp_path / "a.jpg"
    ledger.take(file)
    file.write_bytes(b"later")
    assert ledger.next_item().request(MAX_BYTES).item.image == b"later"


def test_an_endless_file_is_too_large_not_endless(ledger):
    ledger.take("/dev/zero")
    with pytest.raises(CategorizerError, match="more than 100 bytes"):
        ledger.next_item().request(MAX_BYTES)


@pytest.mark.parametrize("content", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_a_named_source_takes_any_bytes(ledger, content):
    ledger.take(("a", content))
    assert ledger.next_item().request(MAX_BYTES).item.image == b"x"


def test_an_outcome_of_a_newer_server_is_an_error_of_its_image(ledger):
    ledger.take(("a", b"x"))
    response = ClassifyStreamResponse(key=ledger.next_item().wire_key)
    result = ledger.answered(response, "mine")
    assert (result.error.request_id, "unknown" in str(result.error)) == ("mine", True)


def lost(status="UNAVAILABLE", request_id=""):
    code = grpc.StatusCode[status].value[0]
    return from_status(Status(code=code, message="gone"), request_id)


def sending(heard, sent=2):
    """The server has two images; a third is not sent yet."""
    ledger = new_ledger(lambda keys: heard.append(list(keys)))
    for key in ("a", "b", "c"):
        ledger.take((key, b"x"))
    for _ in range(sent):
        assert ledger.next_item()
    return ledger


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"])
def test_a_disconnect_names_the_images_that_the_server_had(status):
    heard = []
    ledger = sending(heard)
    ledger.accepted()
    ledger.ended(lost(status))
    assert heard == [["a", "b"]]
    assert [ledger.next_item().key for _ in range(3)] == ["a", "b", "c"]
    ledger.ended(lost(status))  # the server did not accept the next call
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("error", "is_accepted", "sent"),
    [
        (lost(), False, 2),
        (lost(request_id="r1"), True, 2),
        (ended_early(), True, 2),
        (lost(), True, 0),
    ],
    ids=["not accepted", "the server's own error", "ended without an error", "nothing sent"],
)
def test_other_ends_of_a_call_are_no_disconnect(error, is_accepted, sent):
    heard = []
    ledger = sending(heard, sent)
    if is_accepted:
        ledger.accepted()
    ledger.ended(error)
    assert heard == []


def test_an_exception_of_on_disconnect_ends_the_stream():
    def refuse(keys):
        raise ZeroDivisionError

    ledger = new_ledger(refuse)
    ledger.take(("a", b"x"))
    ledger.next_item()
    ledger.accepted()
    with pytest.raises(ZeroDivisionError):
        ledger.ended(lost())


def test_images_that_break_call_after_call_fail_and_those_that_wait_do_not():
    ledger = new_ledger()
    for key in ("a", "b", "c"):
        ledger.take((key, b"x"))
    for attempt in range(1, MAX_LOSSES + 1):
        items = [ledger.next_item() for _ in range(2)]
        assert [item.request(MAX_BYTES).item.attempt for item in items] == [attempt] * 2
        ledger.accepted()
        assert ledger.given_up() == []
        ledger.ended(lost())
    assert [(r.key, str(r.error)) for r in ledger.given_up()] == [("a", "gone"), ("b", "gone")]
    assert ledger.given_up() == []
    assert ledger.next_item().key == "c"
    assert ledger.next_item() is None
