"""Preprocessing, compared with a plain resize."""

import numpy as np
import pytest
from image_categorizer_server.inference.images.decode import Decoder, Pixels
from image_categorizer_server.inference.images.preprocess import (
    InputSpec,
    Preprocessor,
    reduce,
    resized_size,
)
from PIL import Image

from tests.support.pictures import encoded, scene
from tests.unit.conftest import LIMITS

ONES = (1.0, 1.0, 1.0)


def spec(resize="shortest_edge", resize_px=64, width_px=56, height_px=48, resample="bilinear"):
    return InputSpec(
        width_px=width_px,
        height_px=height_px,
        resize=resize,
        resize_px=resize_px,
        resample=resample,
        scale=ONES,
        bias=ONES,
    )


@pytest.mark.parametrize("size_px", [(300, 200), (200, 300), (101, 101), (64, 640), (30, 20)])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos"])
def test_reducing_equals_resizing_the_whole_and_cropping(size_px, resample):
    picture = scene(*size_px)
    width_px, height_px = size_px
    scale = 64 / min(size_px)
    resized = int(width_px * scale + 1e-9), int(height_px * scale + 1e-9)
    whole = Image.fromarray(picture).resize(resized, Image.Resampling[resample.upper()])
    left, top = (resized[0] - 56) // 2, (resized[1] - 48) // 2
    expected = np.asarray(whole.crop((left, top, left + 56, top + 48)))
    assert np.array_equal(reduce(Pixels.of(picture), spec(resample=resample)), expected)


def test_an_exact_size_ignores_the_shape():
    picture = scene(90, 30)
    exact = spec(resize="exact", resize_px=0, width_px=20, height_px=20)
    expected = np.asarray(Image.fromarray(picture).resize((20, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(reduce(Pixels.of(picture), exact), expected)


def test_the_longer_edge_is_rounded_down():
    assert resized_size(500, 375, spec(resize_px=256)) == (341, 256)
    assert resized_size(375, 500, spec(resize_px=256)) == (256, 341)


def test_an_extreme_shape_costs_little():
    content = encoded(Image.new("RGB", (1, 100)), "PNG")
    prepared = Preprocessor(Decoder(LIMITS), spec(resize_px=256, width_px=224, height_px=224))
    assert prepared.prepare(content).array.shape == (224, 224, 3)


def test_the_decode_time_is_measured():
    prepared = Preprocessor(Decoder(LIMITS), spec()).prepare(encoded(scene()))
    assert 0 < prepared.decode_ms < 1000
