"""What a client hears of calls that break: only of those that the server had taken."""

import pytest
from image_categorizer import Unavailable
from image_categorizer._streams import Ledger, ended_early
from image_categorizer.errors import CategorizerError


def cut(status: str = "UNAVAILABLE", request_id: str = "") -> CategorizerError:
    error = Unavailable("gone") if status == "UNAVAILABLE" else CategorizerError("gone")
    error.status, error.request_id = status, request_id
    return error


def sending(heard: list[list[str]], sent: int = 2) -> Ledger:
    """Two images are with the server, a third is not sent yet."""
    ledger = Ledger({}, "BATCH", lambda keys: heard.append(list(keys)))
    for key in ("a", "b", "c"):
        ledger.take((key, b"x"))
    for _ in range(sent):
        assert ledger.next_item()
    return ledger


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"])
def test_a_call_that_was_taken_and_broke_names_what_the_server_had(status):
    heard: list[list[str]] = []
    ledger = sending(heard)
    ledger.accepted()
    ledger.broken(cut(status))
    assert heard == [["a", "b"]]
    assert [ledger.next_item().key for _ in range(3)] == ["a", "b", "c"]
    ledger.broken(cut(status))  # the next call was not taken
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("error", "is_accepted", "sent"),
    [
        (cut(), False, 2),
        (cut(request_id="r1"), True, 2),
        (ended_early(), True, 2),
        (cut(), True, 0),
    ],
    ids=["not taken", "the server's own word", "ended well", "nothing sent"],
)
def test_of_other_ends_nothing_is_heard(error, is_accepted, sent):
    heard: list[list[str]] = []
    ledger = sending(heard, sent)
    if is_accepted:
        ledger.accepted()
    ledger.broken(error)
    assert heard == []


def test_what_the_hearer_raises_ends_the_stream():
    def refuse(keys):
        raise ZeroDivisionError

    ledger = Ledger({}, "BATCH", refuse)
    ledger.take(("a", b"x"))
    ledger.next_item()
    ledger.accepted()
    with pytest.raises(ZeroDivisionError):
        ledger.broken(cut())
