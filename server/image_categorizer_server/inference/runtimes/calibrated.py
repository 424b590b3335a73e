"""A runtime whose confidences are calibrated by temperatures (Guo et al. 2017, arXiv:1706.04599).

Logits divided by a temperature keep their order: above 1 the network is less sure, below 1 surer.
The first category decides which temperature divides all of a picture's logits.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.inference.runtimes import Answer, Precision, Runtime

SMALLEST = np.float32(1e-37)
"""Confidences below count as this: smaller numbers lose their precision."""
NEAR_ONE = np.float32(1 - 2**-24)


class CalibratedRuntime:
    """Applies temperatures to what another runtime answers; see `Runtime`."""

    def __init__(
        self, runtime: Runtime, temperatures: Sequence[float], activation: Activation
    ) -> None:
        """Wraps a runtime.

        Args:
            runtime: answers.
            temperatures: for each category what logits are divided by where it comes first.
            activation: softmax or sigmoid.
        """
        self.name: str = runtime.name
        self.device: str = runtime.device
        self.precision: Precision = runtime.precision
        self.runners: int = runtime.runners
        self.for_single: Runtime | None = (
            CalibratedRuntime(runtime.for_single, temperatures, activation)
            if runtime.for_single
            else None
        )
        self._runtime = runtime
        self._temperatures = np.array(temperatures, np.float32)
        self._activation = activation

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer, calibrated and with the raw confidences; see `Runtime.predict`."""
        answer = self._runtime.predict(inputs, with_features=with_features)
        raw = answer.confidences
        temperatures = self._temperatures[raw.argmax(-1)][:, None]
        calibrated = at_temperature(raw, temperatures, self._activation)
        return replace(answer, confidences=calibrated, raw_confidences=raw)


def at_temperature(
    confidences: NDArray[np.float32],
    temperature: float | NDArray[np.floating[Any]],
    activation: Activation,
) -> NDArray[np.float32]:
    """Returns confidences float32 (N, C) as if the logits were divided by the temperature.

    Args:
        confidences: float32 (N, C).
        temperature: of all rows, or (N, 1) for one of each row.
        activation: softmax or sigmoid.
    """
    divisor = np.asarray(temperature, np.float32)
    scaled = np.log(np.maximum(confidences, SMALLEST))
    if activation == "sigmoid":
        scaled -= np.log1p(-np.minimum(confidences, NEAR_ONE))
        # A sigmoid that does not overflow.
        return np.asarray(0.5 + 0.5 * np.tanh(scaled / (2 * divisor)), np.float32)
    scaled /= divisor
    scaled -= scaled.max(-1, keepdims=True)
    powers: NDArray[np.float32] = np.exp(scaled)
    powers /= powers.sum(-1, keepdims=True)
    return powers
