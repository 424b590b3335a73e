"""When a webhook is attempted again."""

import statistics
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from image_categorizer_server.services.delivery import PAUSES_S, pause_after, retry_after_s

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_pauses_grow_by_the_schedule_and_end():
    pauses = [pause_after(count, None, NOW, 1.0) for count in range(10)]
    assert pauses[9] is None
    for pause, planned in zip(pauses, PAUSES_S, strict=False):
        assert 0.8 * planned <= pause <= 1.2 * planned


def test_pauses_are_spread_and_scaled():
    pauses = [pause_after(1, None, NOW, 0.5) for _ in range(200)]
    assert 120 <= min(pauses) < 130
    assert 170 < max(pauses) <= 180
    assert statistics.stdev(pauses) > 10


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("999999999999", 86_400),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("Sun, 22 Nov 2026 12:01:00 -0000", 60),
        ("soon", 0),
        ("-5", 0),
        ("9" * 5000, 86_400),
        ("3.5", 0),
        ("1e400", 0),
        ("NaN", 0),
        ("inf", 0),
        ("\u0663\u0660", 0),
        ("\xff", 0),
        ("Mon, 1 Jan 2020 10:00:00 +99999999999999999", 0),
        ("Mon, 1 Jan 2020 10:00:00 -99999999999999999", 0),
        ("Mon, 1 Jan 0001 00:00:00 +2359", 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86_400),
        ("Mon, 1 Jan 99999999999 10:00:00 GMT", 0),
        ("Mon, 99 Jan 2020 99:99:99 GMT", 0),
        ("\0", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, expected_s):
    assert retry_after_s(header, NOW) == pytest.approx(expected_s)


def test_retry_after_is_kept_where_it_is_later_than_the_schedule():
    assert pause_after(0, "3600", NOW, 1.0) == 3600
    assert pause_after(0, "1", NOW, 1.0) >= 4
