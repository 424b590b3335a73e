"""ONNX Runtime on a CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from image_categorizer_server.inference.runtimes import Answer, Precision, Runtime
from image_categorizer_server.inference.runtimes.heap import share_heap

INPUT = "input"
OUTPUT = "confidences"
FEATURES = "features"
ERRORS_ONLY = 3  # warnings concern the exported graph, which a user cannot change


class OnnxRuntime:
    """Runs an exported network; see `Runtime`."""

    name = "onnx"
    device = "cpu"

    def __init__(
        self,
        file: Path,
        threads: int,
        runners: int,
        precision: Precision = "fp32",
        single_image_threads: int = 0,
    ) -> None:
        """Loads and optimizes the graph; blocks.

        Args:
            file: the graph.
            threads: number of threads of one call; 0 for one per core.
            runners: maximum number of concurrent calls; they share the weights.
            precision: the number format of the graph.
            single_image_threads: number of threads of a call while no other image waits.  If
                greater than `threads`, the network is loaded a second time: a session cannot change
                its threads.
        """
        self.runners = runners
        self.precision = precision
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERRORS_ONLY
        share_heap()
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False  # plans one arena block for each size of micro-batch
        # Threads that spin between calls would take cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        is_wider = single_image_threads > threads > 0
        self.for_single: Runtime | None = (
            OnnxRuntime(file, single_image_threads, 1, precision) if is_wider else None
        )
        self.has_features = FEATURES in {output.name for output in self._session.get_outputs()}

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer; see `Runtime.predict`."""
        batch = {INPUT: np.stack(inputs)}
        if with_features and self.has_features:
            confidences, features = self._session.run([OUTPUT, FEATURES], batch)
            return Answer(
                cast("NDArray[np.float32]", confidences), cast("NDArray[np.float32]", features)
            )
        (confidences,) = self._session.run([OUTPUT], batch)
        return Answer(cast("NDArray[np.float32]", confidences))
