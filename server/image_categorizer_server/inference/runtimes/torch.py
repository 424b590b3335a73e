"""torch, on a GPU, or on a CPU for networks that do not survive the export to ONNX.

Importing this module imports torch and transformers, which takes seconds: import it where it is
needed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from image_categorizer_server.inference.runtimes import Answer, Precision
from image_categorizer_server.inference.runtimes.features import WithFeatures
from image_categorizer_server.inference.runtimes.network import Network


class TorchRuntime:
    """Runs a network with torch; see `Runtime`."""

    name = "torch"
    precision: Precision = "fp32"
    runners = 1

    def __init__(self, network: Network, device: str, located: WithFeatures | None = None) -> None:
        """Moves the network to `cpu` or `cuda`; blocks.

        Args:
            network: what runs.
            device: where.
            located: the same network with its features, where it has some.
        """
        self.device = device
        self._network = network.to(device)
        self._located = located

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer; see `Runtime.predict`."""
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(inputs)).to(self.device, non_blocking=True)
            if with_features and self._located is not None:
                confidences, features = self._located(batch)
                return Answer(confidences.cpu().numpy(), features.cpu().numpy())
            return Answer(self._network(batch).cpu().numpy())
