"""Values of batches, and their way into JSON and back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer_server.db import convert as encoding
from image_categorizer_server.domain.batch import Batch, BatchConfig, BatchState
from image_categorizer_server.domain.classification import Category, ClassifyOptions, Prediction
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.services.batch import _batch_token, _limit, _number, _position

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
BATCH = Batch(
    batch_id="b-x_y-z",
    tenant_id="t1",
    state=BatchState.RUNNING,
    state_message="",
    item_count=10,
    succeeded_count=3,
    failed_count=1,
    create_time=NOW,
    start_time=NOW,
    end_time=None,
    config=BatchConfig(),
)
TEXT = st.text(max_size=20)
OPTIONS = st.builds(
    ClassifyOptions,
    model=TEXT,
    version=st.none() | st.integers(1, 99) | TEXT,
    confidence_threshold=st.floats(0, 1),
    top_k=st.integers(0, 100),
    include_categories=st.lists(TEXT, max_size=3).map(tuple),
    exclude_categories=st.lists(TEXT, max_size=3).map(tuple),
    bounding_boxes=st.booleans(),
    no_cache=st.booleans(),
)
BOX = st.none() | st.tuples(*(st.integers(0, 9999) for _ in range(4)))
PREDICTIONS = st.lists(
    st.builds(
        Prediction,
        st.builds(Category, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple)),
        st.floats(0, 1),
        BOX,
    ),
    max_size=4,
)


@given(OPTIONS)
def test_options_survive(options):
    assert encoding.options_from_json(encoding.options_to_json(options)) == options


@given(PREDICTIONS)
def test_predictions_survive(predictions):
    text = encoding.predictions_to_json(predictions)
    assert list(encoding.predictions_from_json(text)) == predictions


def test_options_of_a_later_release_are_read():
    text = '{"model": "m", "unheard_of": 1}'
    assert encoding.options_from_json(text) == ClassifyOptions(model="m")


def test_a_batch_knows_what_is_left():
    assert (BATCH.pending_count, BATCH.remaining_s) == (6, None)
    assert replace(BATCH, items_per_s=2.0).remaining_s == 3.0


@pytest.mark.parametrize("state", BatchState)
def test_ended_states_are_three(state):
    assert state.has_ended == (state.value in ("COMPLETED", "CANCELLED", "FAILED"))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ((None, 0, None, 0), 0.0),
        ((10.0, 0, None, 0), 0.4),  # four items in ten seconds
        ((2.0, 3, 8.0, 0), 0.5),  # since the mark before
        ((0.0, 4, None, 0), 0.0),
        ((-5.0, 4, None, 0), 0.0),  # a clock that went back
    ],
)
def test_the_rate_is_measured_from_the_mark_before_the_last(marks, expected):
    mark_s, mark_count, last_s, last_count = marks
    row = {
        "state": "RUNNING",
        "succeeded_count": 3,
        "failed_count": 1,
        "mark_time": None if mark_s is None else NOW - timedelta(seconds=mark_s),
        "mark_count": mark_count,
        "last_mark_time": None if last_s is None else NOW - timedelta(seconds=last_s),
        "last_mark_count": last_count,
    }
    assert encoding.rate_of(row, NOW) == pytest.approx(expected)
    assert encoding.rate_of(row | {"state": "COMPLETED"}, NOW) == 0.0


def test_page_tokens_lead_back():
    assert _position(_batch_token(BATCH)) == (NOW, "b-x_y-z")
    assert _number("17") == 17
    assert [_limit(size) for size in (0, 7, 5000)] == [100, 7, 1000]


@pytest.mark.parametrize("token", ["-1", "1.5", "\u0661", "x", "1" * 10, " 1"])
def test_tokens_of_results_are_numbers(token):
    with pytest.raises(InvalidRequest):
        _number(token)
