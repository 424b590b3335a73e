"""ONNX Runtime on a CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

INPUT = "input"
OUTPUT = "confidences"
ERRORS_ONLY = 3  # warnings are about the exporter's graph, not ours to mend


class OnnxRuntime:
    """Runs an exported network; see `Runtime`."""

    name = "onnx"
    device = "cpu"

    def __init__(self, file: Path, threads: int, lanes: int) -> None:
        """Loads and optimises the graph; blocks.

        Args:
            file: what `export` wrote.
            threads: cores that one call uses.
            lanes: calls that may run at once; they share the weights.
        """
        self.lanes = lanes
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERRORS_ONLY
        # Threads that spin between calls take cores away from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )

    def predict(self, inputs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Returns confidences float32 (N, C); see `Runtime.predict`."""
        (confidences,) = self._session.run([OUTPUT], {INPUT: np.stack(inputs)})
        return cast("NDArray[np.float32]", confidences)
