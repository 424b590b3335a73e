"""Runtimes run a network, behind one interface: ONNX Runtime on a CPU, torch on a GPU.

Either may be in another process; see `remote`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Wanted = Literal["auto", "fp32", "fp16", "bf16"]
"""Values of the setting `inference.precision`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one model call, a row for each input."""

    confidences: NDArray[np.float32]
    """float32 (N, C) in [0, 1]."""
    features: NDArray[np.float32] | None = None
    """float32 (N, K, h, w), for `localize`; (N, Q, 4 + C), for `detect`; None unless requested."""
    raw_confidences: NDArray[np.float32] | None = None
    """float32 (N, C), before the temperature; None if the model has none."""
    model_s: float | None = None
    """Seconds of the model that fall to these inputs; None: as long as the call took."""


class RuntimeLost(Exception):
    """The runtime will never answer again; the model has to be loaded anew."""


class Runtime(Protocol):
    """A network that is ready to answer."""

    name: str
    """`onnx` or `torch`."""
    device: str
    """`cpu` or `cuda`."""
    precision: Precision
    """The number format of the network."""
    runners: int
    """Maximum number of concurrent calls."""

    @property
    def for_single(self) -> "Runtime | None":
        """The same network for one call while no other image waits; None if there is none."""
        ...

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer for N inputs uint8 (H, W, 3); blocks.

        Args:
            inputs: at least one.
            with_features: whether to return the features too, if the network has any.
        """
        ...
