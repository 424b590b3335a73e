"""Temperatures: how they change confidences, and how they are fitted."""

from pathlib import Path

import numpy as np
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import Answered
from image_categorizer_server.inference.evaluation.dataset import LabelledPicture
from image_categorizer_server.inference.evaluation.temperature import fit_temperature
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

    name, device, precision, runners = "rows", "cpu", "fp32", 1

    def __init__(self, confidences):
        self._confidences = confidences

    def predict(self, inputs, *, with_features=False):
        return Answer(self._confidences[: len(inputs)])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_confidences_before_the_temperature_are_those_of_the_network_to_the_bit(activation):
    # Certain, impossible, and too small for a float32 once they are raised to a power.
    said = np.array([[1, 0, 0], [0.9, 1e-38, 0.1], [0.4, 1e-45, 0.6]], np.float32)
    answer = CalibratedRuntime(Rows(said), 4.0, activation).predict([None] * 3)
    assert answer.raw_confidences is not None
    assert answer.raw_confidences.tobytes() == said.tobytes()
    np.testing.assert_array_equal(answer.confidences, at_temperature(said, 4.0, activation))


def answered(rows, right):
    """Returns what a model says about as many pictures as there are rows."""
    found = []
    for number, (row, category) in enumerate(zip(rows, right, strict=True)):
        top = np.argsort(-row)[:5]
        found.append(
            Answered(
                LabelledPicture(Path(f"{number}.jpg"), f"{number}.jpg", (str(category),)),
                int(category),
                tuple(map(int, top)),
                tuple(float(row[index]) for index in top),
                int((row > row[category]).sum()),
                row,
            )
        )
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_confidences_wrong_is_found(temperature):
    honest = softmax(RANDOM.normal(0, 3, (20_000, 12)))
    right = [RANDOM.choice(12, p=row / row.sum()) for row in honest.astype(np.float64)]
    said = softmax(np.log(honest) / (1 / temperature))
    fitted = fit_temperature(answered(said, right), "softmax")
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.after.ece < 0.02
    assert fitted.after.ece <= fitted.before.ece + 0.01
    assert (fitted.fitted, fitted.held_out) == (10_000, 10_000)


def test_what_cannot_be_fitted_is_refused():
    some = answered(softmax(LOGITS[:99]), [0] * 99)
    with pytest.raises(OperatorError, match="99 pictures are too few: at least 100"):
        fit_temperature(some, "softmax")
    with pytest.raises(OperatorError, match="no softmax or sigmoid"):
        fit_temperature(some, "none")
