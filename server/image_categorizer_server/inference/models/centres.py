"""Measures where the cells of a feature map are in the network's input.

A regular grid puts cell k of w at (k + 0.5) / w of the input.  Strides and padding move the
geometric centre of a receptive field away from there (Araujo et al. 2019,
doi:10.23915/distill.00021): by 15.5 of 224 px for MobileNetV2.  But trained weights use only a part
of their field (Luo et al. 2016, arXiv:1701.04128): maps of photographs agree with those of their
mirror images, and boxes with the true ones, at about 6 px.  So this measures, and does not compute:

    a textured square on one colour ─▶ features ─▶ difference from the colour's ─▶ centre
                   its mirror image ─▶ features ─▶ difference from the colour's ─▶ centre

On a regular grid, the two centres are mirror images.  Otherwise both are off by the same distance
to the same side.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.runtimes import Runtime

SQUARES = 32
"""More hardly change the result: its standard error is 0.01 of a cell for MobileNetV2."""
SIDES = 0.3, 0.6  # shortest and longest, as shares of the input's shorter side
POWER = 1.5
MAX_OFFSET = 0.5  # no stride and padding in use moves the geometric centre further


def measure_offset(runtime: Runtime, spec: InputSpec) -> float:
    """Returns how far right of a regular grid the cells are, in cells; blocks; deterministic.

    Use it for both axes: strides and padding are equal on both.  It cannot be measured downwards,
    because networks tell up from down.

    Args:
        runtime: of a network with features.
        spec: the shape of the inputs.
    """
    random = np.random.default_rng(0)
    offsets: list[float] = []
    for _ in range(SQUARES):
        background, scene = _scene(random, spec)
        answer = runtime.predict([background, scene, scene[:, ::-1]], with_features=True)
        assert answer.features is not None
        features = answer.features.astype(np.float64)
        # The strongest cells count most, as they do for boxes.
        responses = ((features[1:] - features[0]) ** 2).sum(1) ** POWER
        columns = responses.sum(1)
        sums = columns.sum(1)
        if np.isfinite(sums).all() and (sums > 0).all():
            width = columns.shape[1]
            centres = columns @ (np.arange(width) + 0.5) / sums
            offsets.append((width - centres.sum()) / 2)
    return float(np.clip(np.mean(offsets), -MAX_OFFSET, MAX_OFFSET)) if offsets else 0.0


def _scene(random: np.random.Generator, spec: InputSpec) -> Sequence[NDArray[np.uint8]]:
    """Returns an input of one colour, and the same with a textured square."""
    shape = spec.height_px, spec.width_px, 3
    background = np.empty(shape, np.uint8)
    background[:] = random.integers(0, 256, 3)
    side_px = max(1, int(min(shape[:2]) * random.uniform(*SIDES)))
    top, left = (int(random.integers(0, length - side_px + 1)) for length in shape[:2])
    scene = background.copy()
    scene[top : top + side_px, left : left + side_px] = texture(random, side_px)
    return [background, scene]


def texture(random: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    """Returns uint8 (side_px, side_px, 3): blocks of random colours, equally strong at all scales.

    Photographs also have edges, and about equal contrast at all scales.
    """
    scales = max(1, side_px.bit_length() - 1)
    total = np.zeros((side_px, side_px, 3))
    for scale in range(1, scales + 1):
        blocks = random.integers(0, 256, (2**scale, 2**scale, 3)) - 128
        at = np.arange(side_px) * 2**scale // side_px
        total += blocks[np.ix_(at, at)]
    scaled: NDArray[np.float64] = (128 + total / scales**0.5).clip(0, 255)
    return scaled.astype(np.uint8)
