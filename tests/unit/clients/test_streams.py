"""The ledger of a stream: what is sent, answered, to be sent again."""

import os

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from image_categorizer import CategorizerError, Overloaded, Unavailable, image_files
from image_categorizer._streams import MOST_ATTEMPTS, MOST_BREAKS, MOST_OPEN, Ledger
from image_categorizer.v1.classify_pb2 import ClassifyResponse, ClassifyStreamResponse

MOST_BYTES = 100


@pytest.fixture
def ledger():
    return Ledger({"top_k": 2}, "BATCH")


def answer(key, code=0, retry_s=0.0):
    if not code:
        return ClassifyStreamResponse(key=key, response=ClassifyResponse(success=True))
    retry, packed = RetryInfo(), Any()
    retry.retry_delay.FromNanoseconds(int(retry_s * 1e9))
    packed.Pack(retry)
    return ClassifyStreamResponse(key=key, status=Status(code=code, details=[packed]))


def test_the_first_message_holds_options_and_lane(ledger):
    config = ledger.config.config
    assert (config.options.top_k, config.lane) == (2, config.BATCH)


def test_a_broken_call_gives_back_what_is_unanswered_in_order(ledger):
    for key in "abcd":
        ledger.take((key, b"x"))
    items = [ledger.next_item() for _ in range(3)]
    assert ledger.answered(answer(items[1].wire_key), "id").key == "b"
    assert ledger.broken(Unavailable("gone")) == pytest.approx(0.2)
    assert [ledger.next_item().key for _ in range(3)] == ["a", "c", "d"]
    assert ledger.next_item() is None
    assert not ledger.is_finished


def test_an_answer_that_comes_twice_counts_once(ledger):
    ledger.take(("a", b"x"))
    item = ledger.next_item()
    assert ledger.answered(answer(item.wire_key), "id") is not None
    assert ledger.answered(answer(item.wire_key), "id") is None
    assert ledger.failed(item, OSError()) is None


def test_a_failure_settles_an_item_that_a_broken_call_gave_back(ledger):
    ledger.take(("a", b"x"))
    ledger.is_exhausted = True
    item = ledger.next_item()
    ledger.broken(Unavailable("gone"))
    assert ledger.failed(item, OSError("gone")).error is not None
    assert ledger.next_item() is None
    assert ledger.is_finished


def test_a_busy_server_is_asked_again_after_its_delay_and_not_for_ever(ledger):
    ledger.take(("a", b"x"))
    for _ in range(MOST_ATTEMPTS - 1):
        item = ledger.next_item()
        assert ledger.answered(answer(item.wire_key, 14, 3), "id") is None
        assert 2 < ledger.pause_s() <= 3
    result = ledger.answered(answer(ledger.next_item().wire_key, 14, 3), "mine")
    assert isinstance(result.error, Unavailable)
    assert not isinstance(result.error, Overloaded)
    assert (result.error.request_id, result.error.retry_after_s) == ("mine", 3)
    assert (result.category, result.confidence, result.predictions) == (None, None, ())


def test_calls_that_break_without_an_answer_are_given_up(ledger):
    waits = [ledger.broken(Unavailable("gone")) for _ in range(MOST_BREAKS - 1)]
    assert waits == sorted(waits)
    assert waits[-1] == 5
    with pytest.raises(Unavailable, match="gone"):
        ledger.broken(Unavailable("gone"))


@pytest.mark.parametrize(
    ("status", "request_id", "again"),
    [
        ("INTERNAL", "", True),
        ("INTERNAL", "from-the-server", False),
        ("UNAUTHENTICATED", "", False),
    ],
)
def test_a_connection_that_breaks_is_told_from_a_servers_refusal(ledger, status, request_id, again):
    error = CategorizerError("no")
    error.status, error.request_id = status, request_id
    if again:
        assert ledger.broken(error) > 0
    else:
        with pytest.raises(CategorizerError):
            ledger.broken(error)


def test_as_many_are_open_as_may(ledger):
    for number in range(MOST_OPEN):
        assert ledger.has_room
        ledger.take((str(number), b"x"))
    assert not ledger.has_room
    assert ledger.given() == 1
    assert ledger.has_room


def test_large_images_take_room_by_their_bytes(ledger):
    for key in "ab":
        ledger.take((key, bytes(40 << 20)))
        ledger.next_item().request(50 << 20)
    assert not ledger.has_room


@pytest.mark.parametrize("wrong", [None, 7, ("a",), (b"a", b"b"), ("a", "b"), b"bytes"])
def test_what_is_no_source_is_refused(ledger, wrong):
    with pytest.raises(TypeError):
        ledger.take(wrong)


def test_a_file_is_read_when_it_is_sent(ledger, tmp_path):
    file = tmp_path / "a.jpg"
    ledger.take(file)
    file.write_bytes(b"later")
    assert ledger.next_item().request(MOST_BYTES).item.image == b"later"


def test_an_endless_file_is_too_large_not_endless(ledger):
    ledger.take("/dev/zero")
    with pytest.raises(CategorizerError, match="more than 100 bytes"):
        ledger.next_item().request(MOST_BYTES)


def test_images_are_found_by_their_names(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "x/c.webp", "d.jpg/e.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(f, tmp_path) for f in image_files(tmp_path, None, True)]
    assert found == ["a.png", "b.JPG", "d.jpg/e.tiff", "x/c.webp"]
    assert image_files(tmp_path, "*.txt", False) == [str(tmp_path / "notes.txt")]
