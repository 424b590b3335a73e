"""What runs a network: ONNX Runtime on a CPU, torch on a GPU, behind one interface."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """A network that is ready to answer."""

    name: str
    """`onnx` or `torch`."""
    device: str
    """`cpu` or `cuda`."""
    lanes: int
    """How many calls may run at once."""

    def predict(self, inputs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Returns confidences float32 (N, C) in [0, 1] for N inputs uint8 (H, W, 3); blocks."""
        ...
