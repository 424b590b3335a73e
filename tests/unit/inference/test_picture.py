"""What is stored of an image has its picture, and none of its metadata."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_categorizer_server.domain.blur import rectangles_of
from image_categorizer_server.errors import UndecodableImage
from image_categorizer_server.inference.images.decode import (
    Decoder,
    ImageLimits,
    Pixels,
    reduction_of,
)
from image_categorizer_server.inference.images.facts import facts_of
from image_categorizer_server.inference.images.formats import format_of
from image_categorizer_server.inference.images.picture import PictureMaker, blurred
from image_categorizer_server.inference.images.picture import encoded as encoded_picture
from image_categorizer_server.inference.images.preprocess import InputSpec, Preprocessor
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.pictures import encoded, jpeg, scene

CANARY = b"CANARY-7F3A"
TEXT = CANARY.decode()
LIMITS = ImageLimits(10_000_000, 50_000_000, 16_384, 100, 100)
DECODER = Decoder(LIMITS)
MAKER = PictureMaker(DECODER)
MIN_PSNR_DB = 40.0
ORIENTATION, MAKE, SERIAL, MAKER_NOTE, GPS = 0x0112, 0x010F, 0xA431, 0x927C, 0x8825
# XMP's is the same in all formats.
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + CANARY + b"</x:xmpmeta>"


def exif(orientation=1):
    """Returns EXIF data with a maker, a serial number, a maker's note and a place."""
    made = Image.Exif()
    made[ORIENTATION] = orientation
    made[MAKE] = TEXT
    made.get_ifd(0x8769)[SERIAL] = f"SN {TEXT}"
    made.get_ifd(0x8769)[MAKER_NOTE] = b"note " + CANARY
    made.get_ifd(GPS)[29] = TEXT
    return made.tobytes()


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(content, *segments):
    """Returns a JPEG with more segments after its first."""
    return content[:2] + b"".join(segments) + content[2:]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(content, kind, body):
    """Returns a PNG with one more chunk after its header."""
    return content[:33] + chunk(kind, body) + content[33:]


def riff(content, kind, body):
    """Returns a WebP file with one more chunk at its end."""
    chunks = content[8:] + kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def png(**options):
    return encoded(scene(), "PNG", **options)


def png_text(compressed):
    info = PngInfo()
    info.add_text("Comment", TEXT, zip=compressed)
    info.add_itxt("Description", TEXT, zip=compressed)
    return png(pnginfo=info)


def webp(**options):
    return encoded(scene(), "WEBP", **({"lossless": True} | options))


def jpeg_files():
    thumbnail = jpeg(16, 16)[:-2] + segment(0xFE, CANARY) + b"\xff\xd9"
    jfif = b"JFIF\0\x01\x02\x00\x00\x01\x00\x01\x04\x01" + CANARY + b"\0"
    plain = jpeg()
    yield "exif", jpeg(exif=exif())
    yield "turned", jpeg(exif=exif(6))
    yield "thumbnail", with_segments(plain, segment(0xE1, exif() + thumbnail))
    yield "xmp", with_segments(plain, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP))
    yield "iptc", with_segments(plain, segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04" + CANARY))
    yield "comment", jpeg(comment=CANARY)
    yield "profile", jpeg(icc_profile=b"profile " + CANARY)
    yield "thumbnail of JFIF", plain[:2] + segment(0xE0, jfif) + plain[20:]
    yield "thumbnail of JFXX", with_segments(plain, segment(0xE0, b"JFXX\0\x10" + CANARY))
    yield "vendor", with_segments(plain, segment(0xEA, CANARY))
    yield "long Adobe", with_segments(plain, segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + CANARY))
    yield "number of lines", with_segments(plain, segment(0xDC, CANARY))
    yield "bytes between segments", plain[:20] + CANARY + plain[20:]
    yield "polyglot", plain + b"PK\x03\x04" + CANARY
    yield "CMYK", encoded(Image.fromarray(scene()).convert("CMYK"), "JPEG", comment=CANARY)


def png_files():
    yield "exif", png(exif=exif())
    yield "turned", png(exif=exif(8))
    yield "text", png_text(compressed=False)
    yield "profile", png(icc_profile=b"profile " + CANARY)
    yield "xmp", with_chunk(png(), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    yield "private", with_chunk(png(), b"prVt", CANARY)
    yield "long transparency", with_chunk(png(), b"tRNS", b"\0\1\0\2\0\3" + CANARY)
    yield "polyglot", png() + CANARY
    yield "after the end", png()[:-12] + chunk(b"IEND", CANARY)
    yield (
        "palette",
        with_chunk(encoded(Image.fromarray(scene()).quantize(16), "PNG"), b"hIST", CANARY),
    )


def other_files():
    yield "WEBP exif", webp(exif=exif())
    yield "WEBP turned", webp(exif=exif(3))
    yield "WEBP xmp", webp(xmp=XMP)
    yield "WEBP profile", webp(icc_profile=b"profile " + CANARY)
    yield "WEBP private", riff(webp(), b"PRVT", CANARY)
    yield "WEBP polyglot", webp() + CANARY
    yield "WEBP lossy", webp(lossless=False, exif=exif())
    yield "GIF comment", encoded(Image.fromarray(scene()).quantize(64), "GIF", comment=CANARY)
    yield "BMP polyglot", encoded(scene(), "BMP") + CANARY
    yield "TIFF", encoded(scene(), "TIFF", exif=exif(), description=TEXT)
    yield "AVIF", encoded(scene(), "AVIF", exif=exif(), xmp=XMP, quality=95)


FILES = {
    **{f"JPEG {name}": content for name, content in jpeg_files()},
    **{f"PNG {name}": content for name, content in png_files()},
    **dict(other_files()),
}
ENCODED_ANEW_WITH_LOSS = {"JPEG turned", "AVIF"}
ENCODED_ANEW = {"PNG turned", "WEBP turned", "GIF comment", "BMP polyglot", "TIFF"}


def psnr_db(one, other):
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize("name", FILES)
def test_no_metadata_is_stored_and_the_picture_stays(name):
    content = FILES[name]
    before = DECODER.decode(content)
    picture = MAKER.picture_of(content)
    for text in (CANARY, b"CANARY", b"adobe:ns", b"Exif", b"Photoshop", b"ICC_PROFILE"):
        assert text not in picture.content
    after = DECODER.decode(picture.content)
    assert (picture.width_px, picture.height_px) == (before.width_px, before.height_px)
    if name in ENCODED_ANEW_WITH_LOSS:
        assert picture.format == "JPEG"
        assert psnr_db(before.array(), after.array()) >= MIN_PSNR_DB
    else:
        assert np.array_equal(before.array(), after.array())
        assert picture.format == ("PNG" if name in ENCODED_ANEW else name.split()[0])
    # A program that knows nothing of orientations sees it upright.
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (before.width_px, before.height_px)
        assert not image.getexif()
        assert image.format == picture.format


@pytest.mark.parametrize("name", FILES)
def test_of_a_blurred_part_nothing_but_its_mean_colour_is_stored(name):
    """Also of a part whose pixels stand in another order, the same bytes are stored."""
    content = FILES[name]
    before = DECODER.decode(content)
    blur = rectangles_of(["100,40,201,139"])
    inside, mixed = np.s_[40:139, 100:201], before.array().copy()
    mixed[inside] = (
        np.random.default_rng(1)
        .permutation(mixed[inside].reshape(-1, 3))
        .reshape(mixed[inside].shape)
    )
    picture = MAKER.picture_of(content, blur=blur)
    assert CANARY not in picture.content
    assert not np.array_equal(mixed, before.array())
    for other in (before.array(), mixed):
        again = encoded_picture(blurred(Pixels.of(other), blur), format_of(content))
        assert again == (picture.format, picture.content)
    after = DECODER.decode(picture.content).array()
    if picture.format == "PNG":
        assert len(np.unique(after[inside].reshape(-1, 3), axis=0)) == 1
        mixed[inside] = after[inside]
        assert np.array_equal(mixed, after)
    else:
        assert after[inside].std(axis=(0, 1)).max() < 2
    assert picture.facts != MAKER.picture_of(content).facts


def test_compressed_text_is_removed():
    """The canary cannot be read in these files before, either."""
    content = png_text(compressed=True)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["Comment"] == TEXT
    with Image.open(io.BytesIO(MAKER.picture_of(content).content)) as image:
        assert not image.info


def test_an_upright_file_without_metadata_is_stored_as_it_is():
    for content in (jpeg(), jpeg(progressive=True), png(), webp(), webp(lossless=False)):
        assert MAKER.picture_of(content).content == content


def test_16_bits_keep_what_is_white():
    samples = (np.arange(64 * 64, dtype=np.uint16) % 4096).reshape(64, 64)
    content = with_chunk(encoded(Image.fromarray(samples), "PNG"), b"sBIT", b"\x0c")
    before, picture = DECODER.decode(content).array(), MAKER.picture_of(content)
    assert before.max() == 255
    assert np.array_equal(DECODER.decode(picture.content).array(), before)


def test_only_the_first_picture_of_an_animation_is_stored():
    frames = [Image.fromarray(scene(seed=seed)) for seed in (1, 2)]
    for image_format in ("WEBP", "GIF", "PNG"):
        content = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
        picture = MAKER.picture_of(content)
        with Image.open(io.BytesIO(picture.content)) as image:
            assert getattr(image, "n_frames", 1) == 1
        before = DECODER.decode(content).array()
        assert np.array_equal(DECODER.decode(picture.content).array(), before)


def test_a_truncated_png_is_stored_whole():
    content = png()
    cut = content[: int(len(content) * 0.97)]
    picture = MAKER.picture_of(cut)
    after = DECODER.decode(picture.content)
    assert after.warnings == ()
    assert np.array_equal(after.array(), DECODER.decode(cut).array())


def test_an_admin_keeps_the_bytes():
    content = FILES["JPEG turned"]
    picture = MAKER.picture_of(content, keep_metadata=True)
    assert (picture.content, picture.format) == (content, "JPEG")
    assert (picture.width_px, picture.height_px) == (240, 320)


def test_what_is_no_image_is_refused():
    with pytest.raises(UndecodableImage):
        MAKER.picture_of(b"RIFF\x08\0\0\0WEBP")


def hamming(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_the_perceptual_hash_is_that_of_the_library_and_finds_like_pictures():
    facts = MAKER.picture_of(jpeg(quality=95)).facts
    like = [
        jpeg(quality=40),
        png(),
        encoded(Image.fromarray(scene()).resize((200, 150)), "JPEG"),
        encoded(scene() // 4 * 3 + 20, "PNG"),
    ]
    for content in like:
        assert hamming(facts.perceptual_hash, MAKER.picture_of(content).facts.perceptual_hash) <= 6
    other = MAKER.picture_of(jpeg(seed=5)).facts
    assert hamming(facts.perceptual_hash, other.perceptual_hash) > 12
    assert len(facts.perceptual_hash) == 16


def test_dominant_colours_have_their_shares():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:60] = (255, 0, 0)
    picture[60:90] = (0, 0, 255)
    picture[90:] = (0, 255, 0)
    colours = MAKER.picture_of(encoded(picture, "PNG")).facts.dominant_colours
    assert [colour.name for colour in colours[:2]] == ["#ff0000", "#0000ff"]
    assert colours[0].share == pytest.approx(0.6, abs=0.03)
    assert sum(colour.share for colour in colours) == pytest.approx(1.0)
    assert len(MAKER.picture_of(jpeg()).facts.dominant_colours) == 5


def test_brightness_and_sharpness_are_measured():
    black, white = (
        MAKER.picture_of(encoded(np.full((50, 50, 3), value, np.uint8), "PNG")).facts
        for value in (0, 255)
    )
    assert (black.brightness, white.brightness) == (0.0, 1.0)
    assert (black.sharpness, len(black.dominant_colours)) == (0.0, 1)
    sharp = Image.fromarray(scene())
    blurred = sharp.resize((40, 30)).resize(sharp.size)
    facts = [MAKER.picture_of(encoded(image, "PNG")).facts for image in (sharp, blurred)]
    assert facts[0].sharpness > 5 * facts[1].sharpness
    single = MAKER.picture_of(encoded(np.full((1, 1, 3), 9, np.uint8), "PNG")).facts
    assert single.sharpness == 0.0


def test_a_large_picture_that_is_stored_as_it_is_is_not_decoded_in_full():
    content = encoded(Image.fromarray(scene()).resize((2400, 1800)), "JPEG")
    decoder = Decoder(LIMITS)  # Pillow's own limit is that of the newest
    full, small = decoder.decode(content), decoder.decode_clean(content, (512, 512))
    assert small[0].array().shape[:2] == (900, 1200)
    assert small[1] == content
    picture = MAKER.picture_of(content)
    assert (picture.content, picture.width_px, picture.height_px) == (content, 2400, 1800)
    expected, found = facts_of(full), picture.facts
    bits = int(expected.perceptual_hash, 16) ^ int(found.perceptual_hash, 16)
    assert bits.bit_count() <= 4
    assert found.brightness == pytest.approx(expected.brightness, abs=0.005)
    assert found.sharpness == pytest.approx(expected.sharpness, rel=0.1)
    turned = jpeg(2400, 1800, exif=exif(6))
    assert decoder.decode_clean(turned, (512, 512))[0].array().shape[:2] == (2400, 1800)


SPEC = InputSpec(
    width_px=224,
    height_px=224,
    resize="shortest_edge",
    resize_px=256,
    resample="bicubic",
    scale=(1, 1, 1),
    bias=(0, 0, 0),
)


@pytest.mark.parametrize("size", [(400, 300), (1000, 700), (1100, 1050), (2400, 1900), (90, 2200)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_what_is_stored_is_made_of_the_pixels_that_the_model_sees(size, image_format):
    picture = Image.fromarray(scene()).resize(size)
    content = encoded(picture, image_format, exif=exif(1))
    made = MAKER.picture_of(content)
    prepared = Preprocessor(DECODER, SPEC).prepare(content, with_stored=True)
    seen = prepared.stored
    assert seen is not None
    assert (seen.content, seen.format) == (made.content, made.format)
    assert CANARY not in seen.content
    assert (seen.width_px, seen.height_px) == size
    plain = Preprocessor(DECODER, SPEC).prepare(content)
    assert plain.stored is None
    assert np.array_equal(prepared.array, plain.array)
    if image_format == "JPEG" and reduction_of(size, (512, 512)) > reduction_of(size, (1024, 1024)):
        assert hamming(seen.facts.perceptual_hash, made.facts.perceptual_hash) <= 1
        assert seen.facts.sharpness == pytest.approx(made.facts.sharpness, rel=0.05)
        assert seen.facts.brightness == pytest.approx(made.facts.brightness, abs=0.002)
    else:
        assert seen.facts == made.facts


def test_what_must_be_encoded_anew_is_not_stored_of_the_pixels_that_the_model_sees():
    turned = encoded(scene(), "JPEG", exif=exif(6))
    prepared = Preprocessor(DECODER, SPEC).prepare(turned, with_stored=True)
    assert prepared.stored is None
    assert np.array_equal(prepared.array, Preprocessor(DECODER, SPEC).prepare(turned).array)
    large = encoded(Image.fromarray(scene()).resize((2100, 2100)), "JPEG")
    tiny = SPEC.model_copy(update={"width_px": 32, "height_px": 32, "resize_px": 32})
    assert Preprocessor(DECODER, tiny).prepare(large, with_stored=True).stored is None
