"""Pages and their tokens (AIP-158)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.paging import (
    LARGEST_NUMBER,
    limit_of,
    moment_and_text_of,
    number_and_text_of,
    number_of,
    page_of,
    token_of,
    token_of_moment,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


@pytest.mark.parametrize(("asked", "given_"), [(0, 100), (1, 1), (1000, 1000), (5000, 1000)])
def test_a_page_size_has_a_default_and_a_bound(asked, given_):
    assert limit_of(asked) == given_


def test_a_negative_page_size_is_refused():
    with pytest.raises(InvalidRequest, match="page_size"):
        limit_of(-1)


@given(st.integers(0, LARGEST_NUMBER), st.from_regex(r"[a-zA-Z0-9-]{1,40}", fullmatch=True))
def test_a_token_leads_back_to_its_position(number, text):
    assert number_of(token_of(number)) == number
    assert number_and_text_of(token_of(number, text)) == (number, text)


def test_a_time_is_exact_to_the_microsecond():
    assert moment_and_text_of(token_of_moment(NOW, "b-1")) == (NOW, "b-1")
    assert moment_and_text_of("") is None


def test_a_forged_time_is_a_time_all_the_same():
    moment, text = moment_and_text_of(token_of(LARGEST_NUMBER, "b-1"))
    assert moment - NOW > timedelta(days=1)
    assert text == "b-1"


@pytest.mark.parametrize(
    "token",
    [
        "?",
        "x" * 5000,
        "12",
        "é",
        token_of(-1),
        token_of(LARGEST_NUMBER + 1),
        token_of("a"),
        token_of(1, "b"),
        token_of("1\0"),
        token_of(1) + "=",
        token_of("\uff19"),
    ],
)
def test_what_was_never_answered_is_refused(token):
    with pytest.raises(InvalidRequest, match="page_token"):
        number_of(token)
    if token != token_of(1, "b"):
        with pytest.raises(InvalidRequest, match="page_token"):
            number_and_text_of(token)


def test_pages_lead_through_a_list():
    items, token, found = list(range(25)), "", []
    while True:
        page = page_of(items, 10, token)
        found += page.items
        if not (token := page.next_page_token):
            break
    assert found == items
    assert page_of([], 5, "").next_page_token == ""
