"""Files of cameras, clipboards and attackers: metadata, missing ends, depths, other formats."""

import io
import logging
import struct
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
from image_categorizer_server.domain.classification import ImageWarning
from image_categorizer_server.errors import InvalidRequest, UndecodableImage, UnsupportedFormat
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.images.formats import readable_formats
from PIL import Image

from tests.support.pictures import encoded, randomly_damaged, scene

LIMITS = ImageLimits(20_000_000, 4_000_000, 16_384, 100, 10, max_tags=1000, min_rows_share=0.9)
PICTURE = scene(200, 160)
TRUNCATED = (ImageWarning.TRUNCATED,)


@pytest.fixture
def decoder():
    with warnings.catch_warnings():
        yield Decoder(LIMITS)


def chunk(kind, body):
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks):
    content = encoded(PICTURE, "PNG")
    return content[:33] + b"".join(chunks) + content[33:]


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def jpeg_with(*segments, **options):
    content = encoded(PICTURE, "JPEG", **options)
    return content[:2] + b"".join(segments) + content[2:]


def tiff_with(count, *, big=False):
    """A grey TIFF of 4 x 4 pixels, with `count` tags of no meaning, each of all bytes."""
    first = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    first += [(273, 4, 1, 16), (277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 16)]
    tags = first + [(40_000, 1, 2**31 - 1, 0)] * count
    form, head = ("<HHQQ", b"II+\0\x08\0\0\0") if big else ("<HHII", b"II*\0")
    place = struct.pack("<Q" if big else "<I", 32)
    counted = struct.pack("<Q" if big else "<H", len(tags))
    start = (head + place).ljust(16, b"\0") + bytes(range(100, 116))
    return start + counted + b"".join(struct.pack(form, *tag) for tag in tags) + bytes(8)


def gif_with(extension, count):
    content = encoded(Image.fromarray(PICTURE).quantize(16), "GIF")
    at = 13 + (3 << (content[10] & 7) + 1)
    return content[:at] + extension * count + content[at:]


@pytest.mark.parametrize(
    "content",
    [
        tiff_with(65_000),
        tiff_with(65_000, big=True),
        gif_with(b"\x21\xfe\x01x\0", 100_000),
        png_with(chunk(b"tEXt", b"a\0b") * 100_000),
        jpeg_with(segment(0xE5, b"") * 100_000),
        jpeg_with(segment(0xFE, b"x") * 100_000),
    ],
    ids=["TIFF", "BigTIFF", "GIF extensions", "PNG text", "JPEG segments", "JPEG comments"],
)
def test_too_much_metadata_is_refused_at_once(decoder, content):
    start_s = time.process_time()
    with pytest.raises(UndecodableImage, match="more than 1000 tags"):
        decoder.decode(content)
    assert time.process_time() - start_s < 1


def exif_of_many_tags(count):
    entries = b"".join(
        struct.pack("<HHII", 0x9000 + i % 99, 5, 2**30, 2**31 + i) for i in range(count)
    )
    orientation = struct.pack("<HHII", 0x0112, 3, 1, 6)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count + 1) + entries + orientation + bytes(4)


@pytest.mark.parametrize(
    ("content", "is_turned"),
    [
        (jpeg_with(segment(0xE1, b"Exif\0\0" + exif_of_many_tags(5000))), True),
        (png_with(chunk(b"eXIf", exif_of_many_tags(60_000))), True),
        (encoded(PICTURE, "WEBP", exif=b"Exif\0\0" + exif_of_many_tags(60_000)), True),
        (png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))), False),
        (png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))), False),
        (gif_with(b"\x21\xfe" + (b"\xff" + b"x" * 255) * 40_000 + b"\0", 1), False),
        (tiff_with(900), None),
    ],
    ids=["JPEG", "PNG", "WEBP", "PNG text", "PNG profile", "GIF comment", "TIFF"],
)
def test_hostile_metadata_costs_little_and_is_never_logged(
    recwarn, decoder, content, is_turned, caplog
):
    caplog.set_level(logging.DEBUG)
    start_s = time.process_time()
    pixels = decoder.decode(content)
    assert time.process_time() - start_s < 2
    if is_turned is not None:
        assert (pixels.width_px, pixels.height_px) == ((160, 200) if is_turned else (200, 160))
    assert [r.getMessage() for r in caplog.records if r.name.startswith("PIL")] == []
    assert list(recwarn) == []


def test_tags_that_share_their_values_do_not_multiply_them(decoder):
    content = bytearray(tiff_with(900))
    content += bytes(100_000)
    for at in range(34 + 9 * 12, 34 + 909 * 12, 12):
        content[at : at + 12] = struct.pack("<HHII", 40_000, 1, 100_000, 16)
    with pytest.raises(UndecodableImage, match="claim more bytes"):
        decoder.decode(bytes(content))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_without_its_end_marker_is_whole_with_a_warning(decoder, options):
    content = encoded(PICTURE, "JPEG", **options)
    whole, cut = decoder.decode(content), decoder.decode(content[:-2])
    assert np.array_equal(whole.array(), cut.array())
    assert (whole.warnings, cut.warnings) == ((), TRUNCATED)


@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_lacks_its_last_rows_is_never_silently_grey(decoder, mode, has_end):
    content = encoded(Image.fromarray(PICTURE).convert(mode), "JPEG", quality=90)
    whole = decoder.decode(content).array()
    verdicts = []
    for percent in range(99, 60, -3):
        cut = content[: len(content) * percent // 100] + b"\xff\xd9" * has_end
        try:
            pixels = decoder.decode(cut)
        except UndecodableImage:
            verdicts.append(False)
            continue
        verdicts.append(True)
        assert pixels.warnings == TRUNCATED
        rows = len(whole) * 85 // 100
        assert np.array_equal(pixels.array()[:rows], whole[:rows])
    assert verdicts[0]
    assert not verdicts[-1]
    assert verdicts == sorted(verdicts, reverse=True)


def test_a_progressive_jpeg_is_shown_once_all_rows_have_details(decoder):
    content = encoded(PICTURE, "JPEG", progressive=True, quality=90)
    assert decoder.decode(content[: len(content) * 8 // 10]).warnings == TRUNCATED
    with pytest.raises(UndecodableImage, match="of its rows are there"):
        decoder.decode(content[: len(content) // 5])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_picture_is_not_taken_for_a_truncated_one(decoder, mode):
    grey = encoded(Image.new("RGB", (97, 61), (128, 128, 128)).convert(mode), "JPEG")
    assert decoder.decode(grey).warnings == ()
    assert decoder.decode(grey[:-2]).warnings == TRUNCATED


@pytest.mark.parametrize("image_format", ["PNG", "BMP"])
def test_rows_that_are_there_decide_about_truncated_pictures(decoder, image_format):
    content = encoded(
        np.random.default_rng(0).integers(0, 256, (100, 80, 3), np.uint8), image_format
    )
    pixels = decoder.decode(content[: len(content) * 95 // 100])
    assert (pixels.warnings, pixels.width_px, pixels.height_px) == (TRUNCATED, 80, 100)
    with pytest.raises(UndecodableImage):
        decoder.decode(content[: len(content) * 85 // 100])


def test_a_png_without_its_last_chunk_is_whole_with_a_warning(decoder):
    content = encoded(PICTURE, "PNG")
    pixels = decoder.decode(content[:-12])
    assert np.array_equal(pixels.array(), PICTURE)
    assert pixels.warnings == TRUNCATED


def test_a_truncated_png_is_measured_against_the_limits_before_its_rows_are_made(decoder):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0))
    with pytest.raises(InvalidRequest, match="pixels"):
        decoder.decode(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"a\0b")[:-1] + b"\0",
        chunk(b"iCCP", b"profile")[:-4] + bytes(4),
        chunk(b"tEXt", b"a\0" + b"b" * 2_000_000),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"b" * 2_000_000)),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    ],
    ids=["text checksum", "profile checksum", "long text", "long packed text", "long profile"],
)
def test_an_ancillary_chunk_does_not_decide_about_a_png(decoder, extra):
    pixels = decoder.decode(png_with(extra))
    assert np.array_equal(pixels.array(), PICTURE)
    assert pixels.warnings == ()


def test_scans_are_counted_up_to_the_end_of_the_picture(decoder):
    progressive = encoded(PICTURE, "JPEG", progressive=True)  # ten scans, the limit
    content = encoded(PICTURE, "JPEG")
    for appended in (progressive * 5, b"\xff\xda" * 1000, b"....ftypmp42" + b"\xff\xda" * 50):
        assert np.array_equal(
            decoder.decode(content + appended).array(), decoder.decode(content).array()
        )
    thumbnail = segment(0xE1, b"Exif\0\0" + b"\xff\xda" * 1000)
    decoder.decode(content[:2] + thumbnail + content[2:])
    assert decoder.decode(progressive + progressive).warnings == ()


def bmp32(alpha, header_bytes=40, bits=32, order=-1):
    """A BMP of 8 x 4 blue pixels with these values of alpha, a row for each."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) if header_bytes > 40 else b""
    size = struct.pack(
        "<IiiHHIIiiII", header_bytes, 8, 4 * order, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0
    )
    dib = (size + masks).ljust(header_bytes, b"\0")
    rows = b"".join(bytes([255, 0, 0, value]) * 8 for value in alpha)
    at = 14 + len(dib)
    return b"BM" + struct.pack("<IHHI", at + len(rows), 0, 0, at) + dib + rows


@pytest.mark.parametrize("header_bytes", [40, 56, 108, 124])
def test_a_bmp_whose_alpha_is_zero_is_opaque(decoder, header_bytes):
    content = bmp32([0] * 4, header_bytes)
    assert decoder.decode(content).array().reshape(-1, 3).tolist() == [[0, 0, 255]] * 32
    assert decoder.decode(content[14:]).array().tolist() == decoder.decode(content).array().tolist()


def test_a_bmp_whose_alpha_is_partly_used_is_over_white(decoder):
    rows = decoder.decode(bmp32([0, 255, 0, 255], 124)).array()[:, 0].tolist()
    assert rows == [[255, 255, 255], [0, 0, 255]] * 2


def test_a_bmp_of_16_bits_ignores_the_bit_beside_its_colours(decoder):
    size = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 0, 0, 0, 0, 0)
    content = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + size + struct.pack("<HH", 0x1F, 0x801F)
    assert decoder.decode(content).array().tolist() == [[[0, 0, 255]] * 2]


def tiff16(samples, **tags):
    image = Image.fromarray(samples)
    return encoded(image, "TIFF", tiffinfo={int(k[1:]): v for k, v in tags.items()})


def png16(samples, bits):
    content = encoded(Image.fromarray(samples), "PNG")
    return content[:33] + chunk(b"sBIT", bytes([bits])) + content[33:]


@pytest.mark.parametrize(
    "make",
    [
        lambda s: tiff16(s, t281=4095),
        lambda s: tiff16(s, t270="ImageJ=1.53\nimages=1\nmin=0.0\nmax=4095.0\n"),
        lambda s: tiff16(s, t270='<OME><Pixels SignificantBits="12"/></OME>'),
        lambda s: png16(s, 12),
    ],
    ids=["MaxSampleValue", "ImageJ", "OME", "sBIT"],
)
def test_twelve_of_sixteen_bits_are_spread_where_the_file_says_so(decoder, make):
    samples = np.array([[0, 1000, 2048, 4095]], np.uint16)
    assert decoder.decode(make(samples)).array()[0, :, 0].tolist() == [0, 62, 128, 255]
    # Scaled already, as the PNG specification demands.
    scaled = samples * 16
    assert decoder.decode(make(scaled)).array()[0, :, 0].tolist() == [0, 62, 128, 255]


def test_sixteen_bits_without_a_word_about_them_have_white_at_65535(decoder):
    samples = np.array([[0, 4095, 65_535]], np.uint16)
    for content in (tiff16(samples), png16(samples, 16)):
        assert decoder.decode(content).array()[0, :, 0].tolist() == [0, 16, 255]


def test_a_bigtiff_is_read(decoder):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "TIFF", big_tiff=True)
    assert np.array_equal(decoder.decode(file.getvalue()).array(), PICTURE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\x00", "JPEG XL"),
        (b"<?xml version='1.0'?>\n<!-- x --><svg>", "SVG"),
        (b"\n\n<!DOCTYPE html><html>", "HTML.*page"),
        (b"\xef\xbb\xbf<HTML>", "HTML"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "camera RAW.*JPEG"),
        (b"FUJIFILMCCD-RAW ", "camera RAW"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "camera RAW"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS.*git lfs pull"),
        (b"PK\x03\x04", "zip"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "MP4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "QuickTime"),
        (b"\0\0\0\x14ftyp\xff\n<b>\0\0\0\0", "kind"),
    ],
)
def test_other_formats_are_named_with_what_to_do(decoder, content, words):
    with pytest.raises(UnsupportedFormat, match=words) as caught:
        decoder.decode(content)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isascii()


def test_errors_list_what_this_installation_reads(decoder):
    with pytest.raises(UndecodableImage) as caught:
        decoder.decode(b"no image")
    listed = str(caught.value).partition("; send ")[2].replace(" or ", ", ").split(", ")
    assert [name.upper().replace("HEIC", "HEIF") for name in listed] == list(readable_formats())


WITHOUT_HEIF = r"""
import sys
sys.modules["pillow_heif"] = None  # what the interpreter then takes for a missing module
from image_categorizer_server.errors import UnsupportedFormat
from image_categorizer_server.inference.images.formats import check_readable, format_of
try:
    check_readable(format_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"))
except UnsupportedFormat as error:
    print(error)
"""


def test_without_the_extra_the_error_about_heic_names_it():
    command = [sys.executable, "-c", WITHOUT_HEIF]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("HEIC is not supported here; send JPEG, ")
    assert "install `image-categorizer-server[heif]`" in printed
    assert printed.count("HEIC") == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["AVIF", "HEIF"])
def test_pictures_of_telephones_are_turned_exactly_once(decoder, image_format, orientation):
    if image_format not in readable_formats():
        pytest.skip(f"this installation does not read {image_format}")
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48] = 255, 0, 0
    upright[32:, 48:] = 0, 0, 255
    jpeg = decoder.decode(turned(upright, "JPEG", orientation, quality=95)).array()
    decoded = decoder.decode(turned(upright, image_format, orientation, quality=95)).array()
    assert decoded.shape == jpeg.shape
    assert np.abs(decoded.astype(int) - jpeg).mean() < 8


def turned(picture, image_format, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, image_format, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("image_format", ["AVIF", "HEIF"])
def test_pictures_of_telephones_are_measured_and_damage_is_refused(decoder, image_format):
    if image_format not in readable_formats():
        pytest.skip(f"this installation does not read {image_format}")
    with pytest.raises(InvalidRequest, match="pixels"):
        decoder.decode(encoded(Image.new("RGB", (2100, 2000)), image_format, quality=10))
    good = encoded(scene(64, 48), image_format)
    random = np.random.default_rng(3)
    for content in randomly_damaged(good, random, 20):
        try:
            pixels = decoder.decode(content)
        except InvalidRequest:
            continue
        assert pixels.array().dtype == np.uint8
    with pytest.raises(UndecodableImage):
        decoder.decode(good[: len(good) // 2])
