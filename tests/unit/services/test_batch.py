"""Page tokens of lists of batches."""

from datetime import UTC, datetime, timedelta

from image_categorizer_server.paging import LARGEST_NUMBER
from image_categorizer_server.services.batch import EPOCH, MICROSECOND, _moment

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def test_a_time_is_exact_to_the_microsecond():
    assert _moment((NOW - EPOCH) // MICROSECOND) == NOW


def test_a_forged_number_is_a_time_all_the_same():
    assert _moment(LARGEST_NUMBER) - NOW > timedelta(days=1)
