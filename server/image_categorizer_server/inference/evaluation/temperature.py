"""Fits temperatures by the log loss of the right categories (Guo et al. 2017, arXiv:1706.04599).

The log loss of every picture is computed once for each temperature of a grid; after that any part
of the pictures is fitted, also in each fold of a cross-validation, by adding columns.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.inference.evaluation.answers import Answered
from image_categorizer_server.inference.runtimes.calibrated import at_temperature

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
STEPS = 121
"""So neighbours differ by 5 %."""
LOGARITHMS = np.linspace(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE), STEPS)
SMALLEST_CONFIDENCE = 1e-37
"""Of the right category, so that its logarithm is a number."""

Logarithm = float
"""The natural logarithm of a temperature."""


class LogLosses:
    """The log loss of each picture as a function of the temperature."""

    def __init__(self, answered: Sequence[Answered], activation: Activation) -> None:
        """Computes the grid; blocks.

        Args:
            answered: with confidences of all categories, and of categories that the model has.
            activation: softmax or sigmoid.
        """
        rows, right = rows_of(answered), np.array([each.category for each in answered])
        self._values = np.stack(
            [
                log_losses(at_temperature(rows, float(np.exp(each)), activation), right, activation)
                for each in LOGARITHMS
            ]
        )

    def at(self, logarithm: Logarithm, pictures: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Returns the log loss of each of these pictures, between those of the two neighbours."""
        place = float(np.interp(logarithm, LOGARITHMS, np.arange(STEPS)))
        low = min(int(place), STEPS - 2)
        below, above = self._values[low, pictures], self._values[low + 1, pictures]
        between: NDArray[np.float64] = below + (place - low) * (above - below)
        return between

    def best(
        self, pictures: NDArray[np.bool_], towards: Logarithm = 0.0, spread: float = np.inf
    ) -> Logarithm:
        """Returns the most likely temperature of some pictures.

        Args:
            pictures: bool (N), which of them to fit.
            towards: the mean of a normal prior.
            spread: its standard deviation; infinite for no prior.
        """
        totals = self._values[:, pictures].sum(1) + ((LOGARITHMS - towards) / spread) ** 2 / 2
        best = int(np.argmin(totals))
        if best in (0, STEPS - 1):
            return float(LOGARITHMS[best])
        # The parabola through three points.
        before, here, after = totals[best - 1 : best + 2]
        bend = before - 2 * here + after
        offset = (before - after) / (2 * bend) if bend > 0 else 0.0
        return float(LOGARITHMS[best] + offset * (LOGARITHMS[1] - LOGARITHMS[0]))


def rows_of(answered: Sequence[Answered]) -> NDArray[np.float32]:
    """Returns float32 (N, C), the confidences of all categories, which the evaluator has kept."""
    rows = [each.row for each in answered if each.row is not None]
    assert len(rows) == len(answered), "the evaluator was to keep all confidences"
    return np.stack(rows)


def log_losses(
    confidences: NDArray[np.float32], right: NDArray[np.int64], activation: Activation
) -> NDArray[np.float64]:
    """Returns float64 (N), the negative logarithm of the likelihood of each right category.

    Args:
        confidences: float32 (N, C).
        right: int64 (N), the right category of each row.
        activation: after a sigmoid, the likelihood includes that the other categories are absent.
    """
    rows = np.arange(len(confidences))
    picked = confidences[rows, right].astype(np.float64).clip(SMALLEST_CONFIDENCE)
    losses: NDArray[np.float64] = -np.log(picked)
    if activation == "sigmoid":
        absent = np.log1p(-confidences.astype(np.float64).clip(0, 1 - 1e-12))
        losses -= absent.sum(1) - absent[rows, right]
    return losses
