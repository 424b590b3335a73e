"""Fits the temperature of a model (Guo et al. 2017, arXiv:1706.04599).

One half of the pictures fits it, the other half shows whether it helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import Answered
from image_categorizer_server.inference.evaluation.metrics import Calibration, calibration_of
from image_categorizer_server.inference.runtimes.calibrated import at_temperature

MIN_PICTURES = 50
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
STEPS = 41
ROUNDS = 3
"""Each looks at `STEPS` temperatures around the best of the round before."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A temperature, and what it does to the pictures that did not fit it."""

    temperature: float
    before: Calibration
    after: Calibration
    fitted: int
    """How many pictures fitted it."""
    held_out: int
    """How many others there were."""


def fit_temperature(answered: Sequence[Answered], activation: Activation) -> Fitted:
    """Returns the temperature with the largest likelihood of the right categories.

    Args:
        answered: with confidences of all categories; every second one fits.
        activation: of the network.

    Raises:
        OperatorError: there are too few pictures, or the network has no activation.
    """
    if activation == "none":
        raise OperatorError("Its confidences come from no softmax or sigmoid: nothing to divide.")
    if len(answered) < 2 * MIN_PICTURES:
        raise OperatorError(
            f"{len(answered)} pictures are too few: at least {2 * MIN_PICTURES} of categories "
            "that the model has are needed."
        )
    fitting, held_out = answered[::2], answered[1::2]
    rows, right = _rows(fitting), np.array([each.category for each in fitting])
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    for _ in range(ROUNDS):
        candidates = np.linspace(low, high, STEPS)
        losses = [_loss(rows, right, float(np.exp(each)), activation) for each in candidates]
        best = int(np.argmin(losses))
        low, high = candidates[max(best - 1, 0)], candidates[min(best + 1, STEPS - 1)]
    temperature = round(float(np.exp((low + high) / 2)), 4)
    calibrated = at_temperature(_rows(held_out), temperature, activation)
    return Fitted(
        temperature,
        calibration_of(held_out),
        calibration_of(
            replace(each, confidences=tuple(float(row[index]) for index in each.top))
            for each, row in zip(held_out, calibrated, strict=True)
        ),
        len(fitting),
        len(held_out),
    )


def _rows(answered: Sequence[Answered]) -> NDArray[np.float32]:
    rows = [each.row for each in answered if each.row is not None]
    assert len(rows) == len(answered), "the evaluator was to keep all confidences"
    return np.stack(rows)


def _loss(
    rows: NDArray[np.float32], right: NDArray[np.int64], temperature: float, activation: Activation
) -> float:
    """Returns the mean of the negative logarithm of the likelihood."""
    confidences = at_temperature(rows, temperature, activation).astype(np.float64)
    picked = confidences[np.arange(len(rows)), right].clip(1e-37)
    loss = -np.log(picked)
    if activation == "sigmoid":  # the other categories are to be absent
        absent = np.log1p(-confidences.clip(0, 1 - 1e-12))
        loss -= absent.sum(1) - absent[np.arange(len(rows)), right]
    return float(loss.mean())
