"""Values of batches become JSON and rows, and are read back."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer_server.db import convert
from image_categorizer_server.domain.classification import (
    Box,
    Category,
    ClassifyOptions,
    Prediction,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
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
    roll_up=st.none() | st.booleans(),
    raw_confidence=st.booleans(),
)
BOXES = st.lists(st.builds(Box, *(st.integers(0, 9999) for _ in range(4))), max_size=3).map(tuple)
PREDICTIONS = st.lists(
    st.builds(
        Prediction,
        st.builds(Category, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple)),
        st.floats(0, 1),
        BOXES,
        st.none() | st.floats(0, 1),
    ),
    max_size=4,
)


@given(OPTIONS)
def test_options_survive(options):
    assert convert.options_from_json(convert.options_to_json(options)) == options


@given(PREDICTIONS)
def test_predictions_survive(predictions):
    text = convert.predictions_to_json(predictions)
    assert list(convert.predictions_from_json(text)) == predictions


def test_the_single_box_of_earlier_rows_is_read():
    stored = '{"category": "cat", "confidence": 1, "category_id": "", "ancestors": [], "box": %s}'
    text = f"[{stored % '[1, 2, 3, 4]'}, {stored % 'null'}]"
    boxes = [p.bounding_boxes for p in convert.predictions_from_json(text)]
    assert boxes == [((1, 2, 3, 4),), ()]


def test_options_of_another_release_are_read():
    text = '{"model": "m", "unheard_of": 1}'
    assert convert.options_from_json(text) == ClassifyOptions(model="m")


def test_every_option_is_stored():
    stored = convert.options_to_json(ClassifyOptions())
    assert all(f'"{field.name}"' in stored for field in fields(ClassifyOptions))


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
    assert convert.rate_of(row, NOW) == pytest.approx(expected)
    assert convert.rate_of(row | {"state": "COMPLETED"}, NOW) == 0.0
