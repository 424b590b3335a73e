"""Image formats, detected from the first bytes of a file without a decoder."""

import contextlib
import struct

from image_categorizer_server.errors import UndecodableImage, UnsupportedFormat

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
# Only for the message about a refused image.
FOREIGN_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL", "JPEG XL"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"icns", "ICNS"),
    (b"<svg", "SVG"),
)


def format_of(content: bytes) -> str:
    """Returns the format of an image, one of `FORMATS`.

    Raises:
        UnsupportedFormat: it is an image of another format.
        UndecodableImage: it is not an image.
    """
    if not content:
        raise UndecodableImage("the image is empty")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    for magic, name in MAGIC:
        if content.startswith(magic):
            return name
    allowed = ", ".join(FORMATS)
    if content[4:8] == b"ftyp":
        raise UnsupportedFormat(
            f"{content[8:12].decode('ascii', 'replace')} images are not supported; send {allowed}"
        )
    for magic, name in FOREIGN_MAGIC:
        if content.startswith(magic):
            raise UnsupportedFormat(f"{name} is not supported; send {allowed}")
    raise UndecodableImage(f"the bytes are not an image; send {allowed}")


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
