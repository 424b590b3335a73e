"""The structure of a WebP file (RFC 9649, section 2): its chunks."""

import struct

from image_categorizer_server.inference.images.container import (
    Container,
    exif_orientation,
    too_many_tags,
)

HEADER_BYTES = 12
EXTENDED, ALPHA, EXIF = b"VP8X", b"ALPH", b"EXIF"
PICTURES = frozenset({b"VP8 ", b"VP8L"})
EXTENDED_BYTES = 10
HAS_ALPHA = 0x10  # the only flag of a file without metadata, profile and animation


def read_webp(content: bytes, max_tags: int) -> Container:
    """Returns a WebP file without what is not its picture; an animated one as it is.

    Raises:
        UndecodableImage: it has too many chunks.
    """
    kept: list[bytes] = []
    orientation: int | None = None
    has_picture = False
    end = min(8 + int.from_bytes(content[4:8], "little"), len(content))
    at, count = HEADER_BYTES, 0
    while at + 8 <= end:
        kind = content[at : at + 4]
        body_end = at + 8 + int.from_bytes(content[at + 4 : at + 8], "little")
        count += 1
        if count > max_tags:
            raise too_many_tags(max_tags)
        if body_end > end:
            return Container(content)  # truncated: the decoder refuses it if it needs it
        body = content[at + 8 : body_end]
        if kind == EXTENDED and len(body) >= EXTENDED_BYTES and not kept:
            kept.append(_chunk(kind, bytes([body[0] & HAS_ALPHA, 0, 0, 0]) + body[4:10]))
        elif (kind == ALPHA or kind in PICTURES) and not has_picture:
            kept.append(_chunk(kind, body))
            has_picture = kind in PICTURES
        elif kind == EXIF and orientation is None:
            orientation = exif_orientation(body)
        at = body_end + len(body) % 2
    if not has_picture:
        return Container(content)
    chunks = b"WEBP" + b"".join(kept)
    file = b"RIFF" + struct.pack("<I", len(chunks)) + chunks
    return Container(file, orientation, is_clean=True)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
