"""EfficientNet-Lite in torch, for GPUs.  The names of the weights are those of the PyTorch port.

Import this module late: torch takes seconds to import.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional

from image_categorizer_server.inference.runtimes.efficientnet_lite import (
    EPSILON,
    HEAD,
    STEM,
    VARIANTS,
    Block,
    Variant,
    blocks,
    padding,
)


@dataclass(frozen=True, slots=True)
class Logits:
    """The output of the network, as transformers has it."""

    logits: torch.Tensor


class Convolution(torch.nn.Conv2d):
    """A convolution without bias, padded as TensorFlow pads."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns float (N, C, H, W)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = inputs.shape[-2:]
        sides = (*padding(width, kernel, stride), *padding(height, kernel, stride))
        return super().forward(functional.pad(inputs, sides) if any(sides) else inputs)


def normalization(channels: int) -> torch.nn.BatchNorm2d:
    """Returns a batch normalization."""
    return torch.nn.BatchNorm2d(channels, eps=EPSILON)


class InvertedResidual(torch.nn.Module):
    """A block; see `Block`."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        inner = block.channels_in * block.expansion
        if block.expansion != 1:
            self._expand_conv = Convolution(block.channels_in, inner, 1)
            self._bn0 = normalization(inner)
        self._depthwise_conv = Convolution(inner, inner, block.kernel, block.stride, groups=inner)
        self._bn1 = normalization(inner)
        self._project_conv = Convolution(inner, block.channels_out, 1)
        self._bn2 = normalization(block.channels_out)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns float (N, C, H, W)."""
        inner = inputs
        if self.block.expansion != 1:
            inner = functional.relu6(self._bn0(self._expand_conv(inner)))
        inner = functional.relu6(self._bn1(self._depthwise_conv(inner)))
        outputs: torch.Tensor = self._bn2(self._project_conv(inner))
        return inputs + outputs if self.block.has_shortcut else outputs


class EfficientNetLite(torch.nn.Module):
    """The network, from scaled pictures to logits."""

    def __init__(self, variant: Variant, categories: int) -> None:
        super().__init__()
        self._conv_stem = Convolution(3, STEM, 3, 2)
        self._bn0 = normalization(STEM)
        self._blocks = torch.nn.ModuleList(map(InvertedResidual, blocks(variant)))
        *_, last = blocks(variant)
        self._conv_head = Convolution(last.channels_out, HEAD, 1)
        self._bn1 = normalization(HEAD)
        self._act = torch.nn.ReLU6()
        self._fc = torch.nn.Linear(HEAD, categories)

    def forward(self, pixel_values: torch.Tensor) -> Logits:
        """Returns logits float (N, C) for float (N, 3, H, W)."""
        inner = functional.relu6(self._bn0(self._conv_stem(pixel_values)))
        for block in self._blocks:
            inner = block(inner)
        inner = self._act(self._bn1(self._conv_head(inner)))
        return Logits(self._fc(inner.mean((2, 3))))


def load_efficientnet_lite(weights: Path, architecture: str) -> EfficientNetLite:
    """Returns the network with its weights, in float32 on the CPU.

    Raises:
        RuntimeError: the weights are those of another network.
    """
    found = load_file(weights)
    network = EfficientNetLite(VARIANTS[architecture], found["_fc.bias"].shape[0])
    network.load_state_dict(found)
    return network.eval()
