"""Formats, colour modes, orientations, limits."""

import struct
import warnings

import numpy as np
import pytest
from image_categorizer_server.errors import (
    ImageTooLarge,
    InvalidRequest,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
)
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.images.formats import webp_size
from PIL import Image

from tests.support.pictures import encoded, jpeg, randomly_damaged, scene

LIMITS = ImageLimits(
    max_bytes=2_000_000,
    max_pixels=1_000_000,
    max_side_px=4000,
    max_aspect_ratio=100,
    max_jpeg_scans=100,
)


@pytest.fixture
def decoder():
    with warnings.catch_warnings():
        yield Decoder(LIMITS)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_lossless_formats_give_the_pixels_that_went_in(decoder, image_format):
    picture = scene(40, 30)
    if image_format == "GIF":
        image = Image.fromarray(picture).quantize(16)
        picture = np.asarray(image.convert("RGB"))
        content = encoded(image, "GIF")
    else:
        content = encoded(
            picture, image_format, **({"lossless": True} if image_format == "WEBP" else {})
        )
    assert np.array_equal(decoder.decode(content).array(), picture)


def test_jpeg_gives_nearly_the_pixels_that_went_in(decoder):
    picture = scene(64, 48)
    decoded = decoder.decode(encoded(picture, quality=95, subsampling=0)).array()
    assert np.abs(decoded.astype(int) - picture).mean() < 8


GREY = scene(24, 16)[:, :, 0]


@pytest.mark.parametrize(
    ("mode", "image", "expected"),
    [
        (
            "1",
            Image.fromarray(GREY).convert("1"),
            np.asarray(Image.fromarray(GREY).convert("1")) * 255,
        ),
        ("L", Image.fromarray(GREY), GREY),
        ("I;16", Image.fromarray(GREY.astype(np.uint16) * 257), GREY),
        ("P", Image.fromarray(GREY).convert("P"), GREY),
    ],
)
def test_grey_modes_become_equal_channels(decoder, mode, image, expected):
    assert image.mode == mode
    decoded = decoder.decode(encoded(image, "PNG")).array()
    assert np.array_equal(decoded, np.repeat(expected[:, :, None], 3, 2))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P with transparency"])
def test_transparent_parts_become_white(decoder, mode):
    image = Image.new("RGBA", (8, 4), (200, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 4))
    if mode == "P with transparency":
        image = image.quantize(4)
    elif mode != "RGBA":
        image = image.convert(mode)
    content = encoded(image, "TIFF" if mode == "PA" else "PNG")
    decoded = decoder.decode(content).array()
    assert (decoded[:, 4:] == 255).all()
    assert (decoded[:, :4] == 0).all()


def test_half_transparent_parts_are_mixed_with_white(decoder):
    content = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")
    assert np.unique(decoder.decode(content).array()) == pytest.approx([127], abs=1)


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(decoder, image_format):
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    mean = decoder.decode(encoded(red, image_format)).array().mean((0, 1))
    assert mean == pytest.approx([255, 0, 0], abs=4)


def test_float_images_are_refused(decoder):
    with pytest.raises(UnsupportedFormat, match="colour mode F"):
        decoder.decode(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_comes_out_upright(decoder, orientation, image_format):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255, 0, 0
    upright[20:, 30:] = 0, 0, 255
    stored = Image.fromarray(upright)
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    if inverse is not None:
        stored = stored.transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    decoded = decoder.decode(encoded(stored, image_format, exif=exif, **options)).array()
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(decoder, value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decoder.decode(encoded(scene(60, 40), exif=exif)).width_px == 60


def test_an_animation_shows_its_first_frame(decoder):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for image_format in ("GIF", "WEBP"):
        content = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
        red, green, _ = decoder.decode(content).array()[0, 0]
        assert (red > 200, green < 60) == (True, True)


def test_a_large_jpeg_is_decoded_smaller_but_not_too_small(decoder):
    pixels = decoder.decode(jpeg(1000, 800), min_px=(224, 224))
    assert pixels.array().shape == (400, 500, 3)
    assert (pixels.width_px, pixels.height_px) == (1000, 800)
    assert decoder.decode(jpeg(1000, 800)).array().shape == (800, 1000, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decoding_smaller_does_not_shift_the_image(decoder, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(smooth(997, 803), quality=98, exif=exif)  # no whole blocks at any edge
    small, full = decoder.decode(content, min_px=(100, 100)), decoder.decode(content)
    assert max(small.array().shape) <= 250 < max(full.array().shape)
    assert (small.width_px, small.height_px) == (full.width_px, full.height_px)
    pictures = [p.resized(40, 40, (0, 0, 40, 40), "bilinear").astype(int) for p in (small, full)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


def smooth(width_px, height_px):
    """Returns uint8 (H, W, 3) that increases to the right and down, so that any shift shows."""
    y, x = np.mgrid[:height_px, :width_px]
    return np.stack([x * 255 / width_px, y * 255 / height_px, 0 * x], -1).astype(np.uint8)


def test_limits_are_inclusive(decoder):
    decoder.decode(encoded(Image.new("1", (1000, 1000)), "PNG"))
    decoder.decode(encoded(Image.new("1", (4000, 250)), "PNG"))
    decoder.decode(encoded(Image.new("1", (1000, 10)), "PNG"))


@pytest.mark.parametrize(
    ("size_px", "words"),
    [((1001, 1000), "1001 x 1000"), ((4001, 100), "4001 x 100"), ((1010, 10), "101 times")],
)
@pytest.mark.parametrize("image_format", ["PNG", "GIF", "WEBP", "BMP", "JPEG"])
def test_extreme_shapes_are_refused(decoder, size_px, words, image_format):
    with pytest.raises(TooManyPixels, match=words):
        decoder.decode(encoded(Image.new("L", size_px), image_format))


def test_too_many_bytes_are_refused(decoder):
    with pytest.raises(ImageTooLarge, match="2000001 bytes"):
        decoder.decode(b"\xff\xd8\xff" + bytes(1_999_998))


def test_a_webp_that_claims_a_huge_canvas_is_refused_before_it_is_opened(decoder):
    content = bytearray(encoded(Image.new("RGB", (64, 64)), "WEBP", lossless=True))
    at = content.index(b"VP8L") + 9
    struct.pack_into("<I", content, at, 16_382 | 16_382 << 14)
    with pytest.raises(TooManyPixels, match="16383 x 16383"):
        decoder.decode(bytes(content))


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 80}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}]
)
def test_webp_headers_of_all_kinds_are_read(options):
    assert webp_size(encoded(scene(123, 77), "WEBP", **options)) == (123, 77)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", UndecodableImage, "empty"),
        (b"hello, this is text", UndecodableImage, "not an image"),
        (b"\xff\xd8\xff", UndecodableImage, "damaged"),
        (b"RIFF\xff\xff\xff\xffWEBP", UndecodableImage, "damaged"),
        (b"%PDF-1.7", UnsupportedFormat, "PDF"),
        (b"<svg xmlns='x'/>", UnsupportedFormat, "SVG"),
        (b"\0\0\0\x1cftypmp42\0\0\0\0", UnsupportedFormat, "MP4"),
    ],
)
def test_files_that_are_not_images_are_refused_with_a_reason(decoder, content, error, words):
    with pytest.raises(error, match=words):
        decoder.decode(content)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_images_are_refused(decoder, image_format):
    content = encoded(scene(200, 150), image_format)
    with pytest.raises(UndecodableImage):
        decoder.decode(content[: len(content) // 2])


def test_a_jpeg_with_too_many_scans_is_refused(decoder):
    content = encoded(Image.new("L", (64, 64), 128), progressive=True)
    scan = content[content.rfind(b"\xff\xda") : -2]
    with pytest.raises(UndecodableImage, match="scans"):
        decoder.decode(content[:-2] + scan * 101 + b"\xff\xd9")


def test_randomly_damaged_images_are_decoded_or_refused(decoder):
    random = np.random.default_rng(7)
    for image_format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        good = encoded(scene(50, 40), image_format)
        for content in randomly_damaged(good, random, 60):
            try:
                pixels = decoder.decode(content)
            except InvalidRequest:
                continue
            assert pixels.array().dtype == np.uint8
