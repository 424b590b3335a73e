"""What runs a network: ONNX Runtime on a CPU, torch on a GPU, behind one interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Wanted = Literal["auto", "fp32", "fp16", "bf16"]
"""The precisions that a setting may ask torch for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model call gives, a row for each input."""

    confidences: NDArray[np.float32]
    """float32 (N, C) in [0, 1]."""
    features: NDArray[np.float32] | None = None
    """float32 (N, K, h, w): what `localize` finds categories by; None unless asked for."""


class Runtime(Protocol):
    """A network that is ready to answer."""

    name: str
    """`onnx` or `torch`."""
    device: str
    """`cpu` or `cuda`."""
    precision: Precision
    """What its numbers are."""
    runners: int
    """How many calls may run at once."""

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer for N inputs uint8 (H, W, 3); blocks.

        Args:
            inputs: N of them.
            with_features: whether to copy the features out too; for networks that have them.
        """
        ...
