"""Image formats: which this installation reads, and which a file has.

They are detected from the first bytes of a file without a decoder.
"""

import contextlib
import importlib
import re
import struct
from functools import cache

from PIL import features

from image_categorizer_server.errors import UndecodableImage, UnsupportedFormat

KNOWN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
WRITTEN = {"WEBP": "WebP", "HEIF": "HEIC"}  # where people write a name in another way
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
)
DIB_HEADER_BYTES = frozenset({40, 52, 56, 108, 124})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
VIDEO_BRANDS = (b"isom", b"iso", b"mp4", b"avc1", b"qt  ", b"M4V", b"3gp", b"MSNV", b"dash", b"f4v")
MAX_BRANDS = 32
# Only for the message about a refused file.
RAW = "camera RAW"
FOREIGN_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL", "JPEG XL"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"icns", "ICNS"),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"IIU\x00", RAW),
    (b"FOVb", RAW),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for,"),
)
TEXT_MAGIC = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+|\?xml[^>]*>.*?<)?(html|svg)\b",
    re.DOTALL | re.IGNORECASE,
)
MAX_PROLOGUE_BYTES = 2048
# What to do about a format, where it is not to convert the picture.
REMEDY = {
    RAW: "send the JPEG that the camera makes, or convert it",
    "HTML": "the address answered with a page, not with a picture",
    "PDF": "convert each page to an image",
    "a Git LFS pointer, not the file that it stands for,": "run `git lfs pull`",
}


@cache
def readable_formats() -> tuple[str, ...]:
    """Returns the formats that this installation reads."""
    missing = set()
    if not features.check("avif"):
        missing.add("AVIF")
    try:
        pillow_heif = importlib.import_module("pillow_heif")  # the extra `heif`
    except ImportError:
        missing.add("HEIF")
    else:
        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    return tuple(name for name in KNOWN if name not in missing)


def check_readable(image_format: str) -> None:
    """Checks a format that `format_of` has returned.

    Raises:
        UnsupportedFormat: this installation does not read it.
    """
    if image_format not in (*readable_formats(), "DIB"):
        remedy = ", or install `image-categorizer-server[heif]` on the server"
        raise UnsupportedFormat(
            f"{_written(image_format)} is not supported here; {_convert()}"
            f"{remedy if image_format == 'HEIF' else ''}"
        )


def format_of(content: bytes) -> str:
    """Returns the format of an image: one of `KNOWN`, or DIB for a BMP without its file header.

    Raises:
        UnsupportedFormat: it is of another format, which the message names.
        UndecodableImage: it is not an image.
    """
    if not content:
        raise UndecodableImage("the image is empty")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    for magic, name in MAGIC:
        if content.startswith(magic):
            return name
    if is_dib(content):
        return "DIB"
    foreign = _media_format(content) if content[4:8] == b"ftyp" else _foreign_format(content)
    if foreign in KNOWN:
        return foreign
    if foreign:
        raise UnsupportedFormat(f"{foreign} is not supported; {REMEDY.get(foreign) or _convert()}")
    raise UndecodableImage(f"the bytes are not an image; {_convert()}")


def is_dib(content: bytes) -> bool:
    """Returns whether this is a BMP without its file header, as the clipboard of Windows has it."""
    if len(content) < 40:
        return False
    header_bytes, width_px, height_px, planes, bits = struct.unpack_from("<IiiHH", content)
    is_sized = width_px > 0 and height_px != 0
    depths = (1, 4, 8, 16, 24, 32)
    return header_bytes in DIB_HEADER_BYTES and planes == 1 and bits in depths and is_sized


def _written(image_format: str) -> str:
    return WRITTEN.get(image_format, image_format)


def _convert() -> str:
    *others, last = map(_written, readable_formats())
    return f"send {', '.join(others)} or {last}"


def _media_format(content: bytes) -> str:
    """Returns the name of a format that builds on ISO/IEC 14496-12, by its brands."""
    size_bytes = min(int.from_bytes(content[:4]), 16 + 4 * MAX_BRANDS)
    major = content[8:12]
    brands = {major, *(content[at : at + 4] for at in range(16, size_bytes - 3, 4))}
    if major == b"crx ":
        return RAW
    if brands & AVIF_BRANDS:
        return "AVIF"
    if brands & HEIF_BRANDS:
        return "HEIF"
    if major.startswith(VIDEO_BRANDS):
        return "a video (MP4 or QuickTime)"
    return f"a file of the kind {major.decode('ascii', 'replace')!a}"


def _foreign_format(content: bytes) -> str:
    for magic, name in FOREIGN_MAGIC:
        if content.startswith(magic):
            return name
    found = TEXT_MAGIC.match(content[:MAX_PROLOGUE_BYTES])
    return found[1].decode().upper() if found else ""


def webp_size(content: bytes) -> tuple[int, int]:
    """Returns the width and the height in a WebP header (RFC 9649, section 2).

    Raises:
        UndecodableImage: the header is truncated or malformed.
    """
    with contextlib.suppress(struct.error):
        chunk = content[12:16]
        if chunk == b"VP8X":
            low, high = struct.unpack_from("<IH", content, 24)
            return (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1
        if chunk == b"VP8L":
            (bits,) = struct.unpack_from("<I", content, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if chunk == b"VP8 ":
            width, height = struct.unpack_from("<HH", content, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise UndecodableImage("the WEBP image is damaged or truncated")
