"""Temperatures: how they change confidences, and which of them a picture gets."""

import numpy as np
import pytest
from image_categorizer_server.inference.models.manifest import CategoryEntry, groups_of
from image_categorizer_server.inference.runtimes import Answer
from image_categorizer_server.inference.runtimes.calibrated import CalibratedRuntime, at_temperature

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(0, 3, (600, 12)).astype(np.float32)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def sigmoid(logits):
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(
    ("activation", "function"),
    [("softmax", softmax), ("sigmoid", sigmoid)],
    ids=["softmax", "sigmoid"],
)
def test_confidences_are_those_of_divided_logits(activation, function, temperature):
    found = at_temperature(function(LOGITS), temperature, activation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, function(LOGITS / temperature), atol=5e-5
    )  # near 1, float32 has few digits


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certain_and_impossible_categories_stay_numbers(activation):
    found = at_temperature(np.array([[1, 0, 0]], np.float32), 0.05, activation)
    assert np.isfinite(found).all()
    assert (found.argmax(), found[0, 0]) == (0, pytest.approx(1))


class Rows:
    """A runtime that answers with given confidences."""

    name, device, precision, runners, for_single = "rows", "cpu", "fp32", 1, None

    def __init__(self, confidences):
        self._confidences = confidences

    def predict(self, inputs, *, with_features=False):
        return Answer(self._confidences[: len(inputs)])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_confidences_before_the_temperature_are_those_of_the_network_to_the_bit(activation):
    # Certain, impossible, and too small for a float32 once they are raised to a power.
    said = np.array([[1, 0, 0], [0.9, 1e-38, 0.1], [0.4, 1e-45, 0.6]], np.float32)
    answer = CalibratedRuntime(Rows(said), [4.0] * 3, activation).predict([None] * 3)
    assert answer.raw_confidences is not None
    assert answer.raw_confidences.tobytes() == said.tobytes()
    np.testing.assert_array_equal(answer.confidences, at_temperature(said, 4.0, activation))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_first_category_decides_the_temperature_and_the_order_stays(activation):
    function = softmax if activation == "softmax" else sigmoid
    temperatures = np.geomspace(0.5, 4, 12)
    said = function(LOGITS)
    answer = CalibratedRuntime(Rows(said), temperatures, activation).predict([None] * 600)
    np.testing.assert_array_equal(
        answer.confidences.argsort(kind="stable"), said.argsort(kind="stable")
    )
    for row, raw in zip(answer.confidences, said, strict=True):
        by_itself = at_temperature(raw[None], float(temperatures[raw.argmax()]), activation)
        np.testing.assert_array_equal(row, by_itself[0])


def test_the_nearest_group_counts():
    categories = [
        CategoryEntry(name="tench", ancestors=("fish", "animal")),
        CategoryEntry(name="beagle", ancestors=("dog", "mammal", "animal")),
        CategoryEntry(name="bus", ancestors=("vehicle",)),
    ]
    assert groups_of(categories, {"animal", "dog", "bus"}) == ("animal", "dog", "bus")
    assert groups_of(categories, {"animal"}) == ("animal", "animal", "")
