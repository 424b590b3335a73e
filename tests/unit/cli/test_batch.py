"""Progress and outcome of a batch."""

from datetime import UTC, datetime

import pytest
from image_categorizer import Batch, BatchResult, CategorizerError
from image_categorizer_server.cli.batch import CountedSources, _fields, _report_end
from image_categorizer_server.errors import OperatorError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def batch_of(state="COMPLETED", succeeded=3, failed=0, failures=(), message=""):
    return Batch(
        batch_id="b-1",
        state=state,
        state_message=message,
        item_count=3,
        succeeded_count=succeeded,
        failed_count=failed,
        pending_count=3 - succeeded - failed,
        create_time=NOW,
        start_time=NOW,
        end_time=NOW,
        webhook_url="",
        ignored_count=0,
        failures=failures,
        items_per_s=0.0,
        remaining_time=None,
    )


def test_sources_are_counted_as_they_are_read():
    counts = []
    sources = CountedSources(["a", ("stdin", b"x")], counts.append)
    assert list(sources) == ["a", ("stdin", b"x")]
    assert counts == [0, 1, 2]
    list(sources)
    assert counts == [0, 1, 2] * 2


def test_a_complete_batch_is_summarized(capsys):
    _report_end(batch_of())
    assert capsys.readouterr().err == "3 of 3 images were classified.\n"


def test_a_failed_image_is_an_error_with_the_first_reason():
    first = BatchResult("0", "a.jpg", error=CategorizerError("the bytes are not an image"))
    with pytest.raises(OperatorError) as caught:
        _report_end(batch_of(succeeded=2, failed=1, failures=(first,)))
    assert str(caught.value) == (
        "2 of 3 images were classified, 1 failed; the first: a.jpg, the bytes are not an image."
    )


def test_the_name_of_a_failed_image_does_not_reach_the_terminal_raw(capsys):
    first = BatchResult("0", "[/x]\x1b[2J", error=CategorizerError("no image"))
    with pytest.raises(OperatorError, match=r"the first: \[/x\]\\x1b\[2J, no image"):
        _report_end(batch_of(succeeded=2, failed=1, failures=(first,)))


def test_a_batch_that_did_not_complete_is_an_error_with_its_reason():
    with pytest.raises(OperatorError, match=r"^The batch is FAILED: no model; 0 of 3 images"):
        _report_end(batch_of("FAILED", 0, message="no model"))


def test_the_json_of_a_batch_has_plain_values():
    fields = _fields(batch_of(succeeded=1, failed=1))
    assert fields["batch_id"] == "b-1"
    assert (fields["succeeded_count"], fields["failed_count"], fields["pending_count"]) == (1, 1, 1)
