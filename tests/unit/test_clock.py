"""Delays between attempts: growing, capped and never the same for everyone."""

from image_categorizer_server.clock import Backoff, jittered


def test_delays_double_up_to_the_cap():
    backoff = Backoff(0.5, 3.0, jitter=0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_reset_starts_again_with_the_shortest_delay():
    backoff = Backoff(1.0, 60.0, jitter=0)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_a_thousand_failures_overflow_nothing():
    backoff = Backoff(0.2, 5.0, jitter=0)
    assert [backoff.next_s() for _ in range(1000)][-1] == 5.0


def test_jitter_spreads_delays_around_their_value():
    delays = [jittered(10.0, 0.5) for _ in range(200)]
    assert all(5 <= delay <= 15 for delay in delays)
    assert len(set(delays)) > 100
