"""Networks as torch modules, from bytes to confidences.

Import this module late: torch and transformers take seconds to import.
"""

from pathlib import Path
from typing import Protocol

import torch

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.inference.images.preprocess import InputSpec


class Output(Protocol):
    """The output of a network in transformers."""

    logits: torch.Tensor
    attentions: tuple[torch.Tensor, ...]
    """Of each layer, if requested."""


class Network(torch.nn.Module):
    """A network from bytes to confidences: scaling, the network itself, softmax or sigmoid."""

    def __init__(self, body: torch.nn.Module, spec: InputSpec, activation: Activation) -> None:
        super().__init__()
        self.body = body
        self.activation = activation
        self.dtype = torch.float32
        self.scale = torch.nn.Buffer(torch.tensor(spec.scale).view(1, 3, 1, 1))
        self.bias = torch.nn.Buffer(torch.tensor(spec.bias).view(1, 3, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns confidences float32 (N, C) for uint8 (N, H, W, 3)."""
        return self.confidences(self.outputs(inputs).logits)

    def outputs(self, inputs: torch.Tensor, **options: bool) -> Output:
        """Returns the output of transformers: `logits` (N, C), and more as `options` request."""
        scaled = inputs.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.bias
        output: Output = self.body(pixel_values=scaled.to(self.dtype), **options)
        return output

    def compute_in(self, dtype: torch.dtype) -> None:
        """Makes the network compute in `dtype`; scaling, softmax and sigmoid stay float32."""
        self.body.to(dtype)
        self.dtype = dtype

    def confidences(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns confidences float32 (N, C)."""
        logits = logits.float()
        return logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()


def load_network(
    folder: Path, spec: InputSpec, activation: Activation, architecture: str = ""
) -> Network:
    """Returns the network of a folder, in float32 on the CPU; blocks.

    Reads only safetensors, and runs no code from the folder.

    Args:
        folder: the files of the version.
        spec: how images become inputs.
        activation: makes confidences from logits.
        architecture: one of ours; empty for a Hugging Face folder.

    Raises:
        OSError: the folder is incomplete.
        ValueError: transformers has no image classifier of this kind.
    """
    if architecture:
        from image_categorizer_server.inference.runtimes.efficientnet_lite_torch import (
            load_efficientnet_lite,
        )

        network = load_efficientnet_lite(folder / "model.safetensors", architecture)
        return Network(network, spec, activation).eval()
    from transformers import AutoModelForImageClassification

    body = AutoModelForImageClassification.from_pretrained(
        folder,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        dtype=torch.float32,
    )
    return Network(body, spec, activation).eval()
