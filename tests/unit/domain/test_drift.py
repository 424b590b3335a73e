"""The population stability index: against figures by hand, under no change, and under changes."""

import math
from collections import Counter
from datetime import date

import numpy as np
import pytest
from image_categorizer_server.domain.drift import (
    BINS,
    CHANCE_INDEX,
    SHIFTED_INDEX,
    Counts,
    Days,
    DriftState,
    Version,
    bin_of,
    drift_of,
)

DAYS = Days(date(2026, 3, 1), date(2026, 3, 1))
VERSION = Version("t1", "pets", 1)


def counts(categories, confidences=None):
    images = sum(categories.values())
    return Counts(DAYS, images, categories, confidences or {"0.9-1.0": images})


def index_of(window, reference):
    return drift_of(VERSION, counts(window), counts(reference))


def test_the_index_is_the_one_that_is_computed_by_hand():
    drift = index_of({"a": 600, "b": 300, "c": 100}, {"a": 500, "b": 300, "c": 200})
    by_hand = 100 / 1001.5 * (0.182151 + 0.690660)  # ln(600.5 / 500.5), ln(200.5 / 100.5)
    assert drift.category_index == pytest.approx(by_hand, abs=2e-6)
    assert [bucket.name for bucket in drift.categories] == ["a", "b", "c"]
    assert drift.categories[1].contribution == 0
    assert drift.confidence_index == 0
    assert drift.state is DriftState.STABLE


def test_the_index_is_that_of_numpy():
    generator = np.random.default_rng(0)
    window, reference = (generator.integers(50, 400, 12) for _ in range(2))
    names = [chr(ord("a") + place) for place in range(12)]
    drift = index_of(
        *(
            {name: int(n) for name, n in zip(names, found, strict=True)}
            for found in (window, reference)
        )
    )
    p, q = ((found + 0.5) / (found + 0.5).sum() for found in (window, reference))
    assert drift.category_index == pytest.approx(float(np.sum((p - q) * np.log(p / q))), rel=1e-12)


@pytest.mark.parametrize(
    ("shares", "state"),
    [
        ((0.5, 0.5), DriftState.STABLE),
        ((0.66, 0.34), DriftState.MODERATE),
        ((0.8, 0.2), DriftState.SHIFTED),
        ((1.0, 0.0), DriftState.SHIFTED),
    ],
)
def test_states_follow_the_convention(shares, state):
    window = {"a": round(5000 * shares[0]), "b": round(5000 * shares[1])}
    assert index_of(window, {"a": 5000, "b": 5000}).state is state


@pytest.mark.parametrize(("images", "before"), [(99, 10_000), (10_000, 499), (0, 0)])
def test_few_images_have_no_index(images, before):
    drift = index_of({"a": images}, {"b": before})
    assert (drift.state, drift.index) == (DriftState.NOT_ENOUGH_IMAGES, 0)


def test_a_category_that_is_new_counts_among_the_others():
    reference = {f"c{number}": 1000 - number for number in range(50)}
    drift = index_of({"new": 5000, "c0": 5000}, reference)
    assert drift.categories[-1].name == "other"
    assert drift.categories[-1].window_share == pytest.approx(0.5, abs=0.001)
    assert len(drift.categories) == 21
    assert math.fsum(b.window_share for b in drift.categories) == pytest.approx(1)
    assert drift.state is DriftState.SHIFTED


def test_ranges_of_confidences_are_wider_if_there_are_few_images():
    few = drift_of(
        VERSION, counts({"a": 100}, {"0.9-1.0": 100}), counts({"a": 500}, {"0.8-0.9": 500})
    )
    many = drift_of(
        VERSION, counts({"a": 5000}, {"0.9-1.0": 5000}), counts({"a": 5000}, {"0.8-0.9": 5000})
    )
    assert [bucket.name for bucket in few.confidences][-1] == "0.8-1.0"
    assert few.confidence_index < CHANCE_INDEX
    assert [bucket.name for bucket in many.confidences] == list(BINS)
    assert many.confidence_index > SHIFTED_INDEX


def test_every_confidence_has_a_range():
    assert (bin_of(0.0), bin_of(0.1), bin_of(0.999), bin_of(1.0)) == (
        *("0.0-0.1", "0.1-0.2", "0.9-1.0"),
        "0.9-1.0",
    )


class Source:
    """Images of 1000 categories with Zipf's shares, and confidences of a beta distribution."""

    def __init__(self, seed, exponent=1.0, alpha=5.0):
        self._generator = np.random.default_rng(seed)
        weights = 1 / np.arange(1, 1001) ** exponent
        self._shares, self._alpha = weights / weights.sum(), alpha

    def day(self, images):
        drawn = self._generator.choice(1000, images, p=self._shares)
        sure = self._generator.beta(self._alpha, 2.0, images)
        categories = Counter(f"c{number}" for number in drawn.tolist())
        return Counts(DAYS, images, categories, Counter(map(bin_of, sure.tolist())))


@pytest.mark.parametrize("images", [100, 300, 2000])
def test_without_drift_few_of_200_days_alarm(images):
    source = Source(seed=images)
    reference = source.day(24 * images if images > 100 else 500)
    found = [drift_of(VERSION, source.day(images), reference) for _ in range(200)]
    alarms = sum(drift.state is DriftState.SHIFTED for drift in found)
    assert alarms <= 10  # 5 %
    assert float(np.mean([drift.category_index for drift in found])) <= 1.5 * CHANCE_INDEX


@pytest.mark.parametrize(
    "changed", [Source(1, exponent=0.4), Source(2, alpha=2.0)], ids=["categories", "confidences"]
)
def test_drift_is_found_on_every_day(changed):
    reference = Source(seed=3).day(20_000)
    found = [drift_of(VERSION, changed.day(500), reference) for _ in range(50)]
    assert all(drift.state is DriftState.SHIFTED for drift in found)
