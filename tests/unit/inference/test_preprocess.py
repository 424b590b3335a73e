"""Preprocessing, compared with a plain resize."""

import numpy as np
import pytest
from image_categorizer_server.inference.images.decode import Decoder, Pixels
from image_categorizer_server.inference.images.preprocess import (
    MAX_WHOLE_RATIO,
    WHOLE_AREA,
    InputSpec,
    Preprocessor,
    per_channel,
    reduce,
    reduced_whole,
    resized_size,
    whole_size,
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


@pytest.mark.parametrize("side_px", [224, 240, 260])
@pytest.mark.parametrize("size_px", [(500, 375), (333, 500), (9, 9), (3000, 1000), (20, 2000)])
def test_the_whole_picture_keeps_its_shape_and_costs_the_same_for_all(size_px, side_px):
    wanted = spec(resize_px=side_px, width_px=side_px, height_px=side_px)
    width_px, height_px = whole_size(*size_px, wanted)
    assert (width_px - side_px) % 32 == (height_px - side_px) % 32 == 0
    assert min(width_px, height_px) >= side_px
    assert width_px * height_px == pytest.approx(WHOLE_AREA * side_px**2, rel=0.13)
    ratio = np.clip(size_px[0] / size_px[1], 1 / MAX_WHOLE_RATIO, MAX_WHOLE_RATIO)
    assert width_px / height_px == pytest.approx(ratio, rel=0.13)


def test_the_whole_picture_is_seen_only_on_request_and_up_to_its_edges():
    picture = scene(500, 375)
    content = encoded(Image.fromarray(picture), "PNG")
    preprocessor = Preprocessor(Decoder(LIMITS), spec())
    assert preprocessor.prepare(content).whole is None
    whole = preprocessor.prepare(content, with_whole=True).whole
    size_px = whole_size(500, 375, spec())
    expected = Image.fromarray(picture).resize(size_px, Image.Resampling.BILINEAR)
    assert np.array_equal(whole, np.asarray(expected))
    grey = spec().model_copy(update={"colour": "grey"})
    assert np.ptp(reduced_whole(Pixels.of(picture), grey), axis=-1).max() == 0


def test_one_number_scales_all_channels_unless_they_differ():
    assert per_channel((0.5, 0.5, 0.5)).shape == ()
    assert per_channel((0.5, 0.5, 0.4)).shape == (3, 1, 1)
    assert per_channel((0.5, 0.5, 0.4)).dtype == per_channel((0.5,) * 3).dtype == np.float32


def test_an_extreme_shape_costs_little():
    content = encoded(Image.new("RGB", (1, 100)), "PNG")
    prepared = Preprocessor(Decoder(LIMITS), spec(resize_px=256, width_px=224, height_px=224))
    assert prepared.prepare(content).array.shape == (224, 224, 3)


def test_the_decode_time_is_measured():
    prepared = Preprocessor(Decoder(LIMITS), spec()).prepare(encoded(scene()))
    assert 0 < prepared.decode_ms < 1000
