"""Estimates: they are interpolated, learn from calls, and recover from a stall."""

import pytest
from image_categorizer_server.inference.engine import latency
from image_categorizer_server.inference.engine.latency import LatencyTable, ServiceRate


def test_between_the_measured_sizes_the_table_is_interpolated():
    table = LatencyTable({1: 0.1, 4: 0.4, 8: 1.2})
    sizes = {1: 0.1, 2: 0.2, 4: 0.4, 6: 0.8, 8: 1.2, 16: 2.4}
    assert {size: table.estimate_s(size) for size in sizes} == pytest.approx(sizes)
    assert [table.largest_within(s, 8) for s in (0.01, 0.35, 0.9, 5)] == [1, 3, 6, 8]


def test_a_slower_machine_slows_all_sizes():
    table = LatencyTable({1: 0.1, 4: 0.4})
    for _ in range(100):
        table.observe(4, 0.8)
    assert table.estimate_s(1) == pytest.approx(0.2, rel=0.01)


def test_one_stall_changes_little():
    table, rate = LatencyTable({1: 0.1}), ServiceRate(0.01)
    table.observe(1, 60.0)
    assert table.estimate_s(1) < 0.14
    rate.observe(4, 1.0, more_wait=True)
    rate.observe(4, 61.0, more_wait=True)
    assert rate.interval_s < 0.012


def test_the_learned_slowdown_expires_without_calls(monkeypatch):
    table = LatencyTable({1: 0.1})
    for _ in range(100):
        table.observe(1, 0.3)
    assert table.estimate_s(1) > 0.25
    monkeypatch.setattr(latency, "FORGET_S", 0.0)
    assert table.estimate_s(1) == pytest.approx(0.1)


def test_the_rate_is_learned_only_while_images_wait():
    rate = ServiceRate(0.01)
    for second in range(100):
        rate.observe(50, float(second), more_wait=True)
    assert rate.interval_s == pytest.approx(0.02, rel=0.05)
    rate.observe(50, 100.0, more_wait=False)
    rate.observe(50, 200.0, more_wait=True)
    assert rate.interval_s == pytest.approx(0.02, rel=0.05)
