"""Where the cells of a feature map are, measured with networks of known geometry."""

import numpy as np
import pytest
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.models.centres import MAX_OFFSET, measure_offset, texture
from image_categorizer_server.inference.runtimes import Answer

CELL_PX = 16


def spec(width_px, height_px):
    return InputSpec(
        width_px=width_px,
        height_px=height_px,
        resize="exact",
        resample="bilinear",
        scale=(1.0, 1.0, 1.0),
        bias=(0.0, 0.0, 0.0),
    )


class Pooling:
    """A network whose features are the means of cells, shifted right; black surrounds the input."""

    name = "pooling"
    device = "cpu"
    precision = "fp32"
    runners = 1

    def __init__(self, shift_px, strength=1.0):
        self._shift_px = shift_px
        self._strength = strength

    def predict(self, inputs, *, with_features=False):
        pixels = np.stack(inputs).astype(np.float32) * self._strength
        count, height, width, channels = pixels.shape
        before, after = max(-self._shift_px, 0), max(self._shift_px, 0)
        padded = np.pad(pixels, ((0, 0), (0, 0), (before, after), (0, 0)))
        moved = padded[:, :, after : after + width]
        cells = moved.reshape(
            count, height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX, channels
        )
        return Answer(np.ones((count, 1), np.float32), cells.mean((2, 4)).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shift_px", [-8, -3, 0, 3, 8])
@pytest.mark.parametrize("size_px", [(224, 224), (256, 128)])
def test_the_offset_is_that_of_the_network(shift_px, size_px):
    offset = measure_offset(Pooling(shift_px), spec(*size_px))
    assert offset * CELL_PX == pytest.approx(shift_px, abs=0.5)


def test_the_offset_is_the_same_each_time():
    assert measure_offset(Pooling(3), spec(224, 224)) == measure_offset(Pooling(3), spec(224, 224))


def test_the_offset_is_at_most_half_a_cell():
    assert measure_offset(Pooling(2 * CELL_PX), spec(224, 224)) == MAX_OFFSET


@pytest.mark.parametrize("strength", [0.0, np.nan])
def test_a_network_that_sees_no_difference_has_no_offset(strength):
    assert measure_offset(Pooling(3, strength), spec(64, 64)) == 0


@pytest.mark.parametrize("side_px", [1, 2, 33, 134])
def test_a_texture_has_the_requested_side_and_contrast(side_px):
    made = texture(np.random.default_rng(0), side_px)
    assert (made.shape, made.dtype) == ((side_px, side_px, 3), np.uint8)
    assert side_px == 1 or made.std() > 40
