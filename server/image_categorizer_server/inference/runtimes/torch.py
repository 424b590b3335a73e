"""torch, on a GPU, or on a CPU for networks that do not survive the export to ONNX.

Importing this module imports torch and transformers, which takes seconds: import it where it is
needed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForImageClassification

from image_categorizer_server.domain import Activation
from image_categorizer_server.inference.preprocess import InputSpec
from image_categorizer_server.inference.runtimes import Answer, Precision


class Network(torch.nn.Module):
    """A network from bytes to confidences: scaling, the network itself, softmax or sigmoid."""

    def __init__(self, body: torch.nn.Module, spec: InputSpec, activation: Activation) -> None:
        super().__init__()
        self.body = body
        self.activation = activation
        self.scale = torch.nn.Buffer(torch.tensor(spec.scale).view(1, 3, 1, 1))
        self.bias = torch.nn.Buffer(torch.tensor(spec.bias).view(1, 3, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns confidences float32 (N, C) for uint8 (N, H, W, 3)."""
        pixel_values = inputs.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.bias
        logits: torch.Tensor = self.body(pixel_values=pixel_values).logits.float()
        return logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()


def load_network(folder: Path, spec: InputSpec, activation: Activation) -> Network:
    """Returns the network of a Hugging Face folder, in float32 on the CPU; blocks.

    Only safetensors are read, and no code of the model's own is run.

    Raises:
        OSError: expected; the folder is incomplete.
        ValueError: expected; transformers knows no image classifier of this kind.
    """
    body = AutoModelForImageClassification.from_pretrained(
        folder,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        dtype=torch.float32,
    )
    return Network(body, spec, activation).eval()


class TorchRuntime:
    """Runs a network with torch; see `Runtime`."""

    name = "torch"
    precision: Precision = "fp32"
    runners = 1

    def __init__(self, network: Network, device: str) -> None:
        """Moves the network to `cpu` or `cuda`; blocks."""
        self.device = device
        self._network = network.to(device)

    def predict(
        self, inputs: Sequence[NDArray[np.uint8]], *, with_features: bool = False
    ) -> Answer:
        """Returns the answer; see `Runtime.predict`."""
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(inputs)).to(self.device, non_blocking=True)
            confidences: NDArray[np.float32] = self._network(batch).cpu().numpy()
        return Answer(confidences)
