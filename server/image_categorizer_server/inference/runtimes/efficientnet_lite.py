"""EfficientNet-Lite: the architecture, as plain numbers.

EfficientNet without squeeze-and-excitation and with ReLU6, so that it quantizes well.  The stem,
the head, and the repetitions of the first and the last stage do not scale
(https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

STEM, HEAD = 32, 1280
"""Channels."""
EPSILON = 1e-3
"""Of batch normalization."""
STAGES = (  # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Variant:
    """How a network scales."""

    width: float
    depth: float
    size_px: int
    """Side of its input."""
    cell_offset: float
    """How far right of and below a regular grid the cells of its features are, in cells: with it,
    heat maps of photographs agree with those of their mirror images."""


VARIANTS = {
    "efficientnet_lite0": Variant(1.0, 1.0, 224, 0.052),
    "efficientnet_lite1": Variant(1.0, 1.1, 240, -0.16),
    "efficientnet_lite2": Variant(1.1, 1.2, 260, -0.19),
}


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block: expand, filter by channel, project."""

    channels_in: int
    channels_out: int
    kernel: int
    stride: int
    expansion: int

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.channels_in == self.channels_out


def blocks(variant: Variant) -> Iterator[Block]:
    """Yields the blocks from the first to the last."""
    channels_in = STEM
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        is_fixed = stage in (0, len(STAGES) - 1)
        channels_out = scaled(channels, variant.width)
        for repeat in range(repeats if is_fixed else math.ceil(repeats * variant.depth)):
            yield Block(channels_in, channels_out, kernel, stride if repeat == 0 else 1, expansion)
            channels_in = channels_out


def scaled(channels: int, width: float) -> int:
    """Returns the number of channels, a multiple of eight and at most a tenth less than exact."""
    exact = channels * width
    rounded = max(MULTIPLE, int(exact + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded + MULTIPLE if rounded < 0.9 * exact else rounded


def padding(side_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the padding before and after a side, as TensorFlow's SAME has it."""
    total = max((math.ceil(side_px / stride) - 1) * stride + kernel - side_px, 0)
    return total // 2, total - total // 2
