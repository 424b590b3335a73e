"""The structure of a JPEG file (ITU-T T.81, annex B): its segments, its scans, its end."""

import re
import struct
from dataclasses import dataclass, field

from image_categorizer_server.errors import UndecodableImage
from image_categorizer_server.inference.images.container import (
    Container,
    exif_orientation,
    too_many_tags,
)

EOI = b"\xff\xd9"
SOS, DNL, COMMENT, APP0, APP1, APP14, APP15 = 0xDA, 0xDC, 0xFE, 0xE0, 0xE1, 0xEE, 0xEF
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
# Bits for a decoder that runs out of data: a picture that changes with them is not complete.
PADDING = b"\x5a\xc3\x96\x3c" * 64
# Segments that say how colours are stored, without what else they may hold, such as a thumbnail.
JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
ADOBE_TRANSFORM_AT = 11  # in the body


@dataclass(frozen=True, slots=True)
class Scan:
    """Which coefficients of which components a scan holds."""

    components: tuple[int, ...]
    first: int
    last: int
    is_closed: bool
    """Whether something follows the scan."""


@dataclass(frozen=True, slots=True)
class Jpeg(Container):
    """A JPEG file, without its application segments and what follows its end."""

    scans: tuple[Scan, ...] = ()
    components: tuple[int, ...] = ()

    def padded(self) -> bytes:
        """Returns the file with more bits at the end of its last scan."""
        return self.content[: -len(EOI)] + PADDING + EOI

    def covers(self, closed_only: bool) -> bool:
        """Returns whether the scans hold a whole picture, though perhaps a coarse one.

        That is: the mean of each block in all components, and the details in the first.
        """
        scans = [scan for scan in self.scans if scan.is_closed or not closed_only]
        means = {c for scan in scans if scan.first == 0 for c in scan.components}
        details = {
            k
            for scan in scans
            if self.components[0] in scan.components
            for k in range(scan.first, scan.last + 1)
        }
        return means >= set(self.components) and details >= set(range(64))


@dataclass(slots=True)
class _Walk:
    """A position in the file, and what was found before it."""

    at: int = 2
    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    orientation: int | None = None
    scans: list[Scan] = field(default_factory=list)
    components: tuple[int, ...] = ()
    segments: int = 0


def read_jpeg(content: bytes, max_tags: int, max_scans: int) -> Jpeg:
    """Returns the structure of a JPEG file, up to its end marker.

    Raises:
        UndecodableImage: it has no picture, or too many segments or scans.
    """
    walk = _Walk()
    has_end = False
    while (segment := _segment_at(content, walk.at)) is not None:
        marker, start, end = segment
        if marker == EOI[1]:
            has_end = True
            break
        walk.segments += 1
        if walk.segments > max_tags:
            raise too_many_tags(max_tags)
        walk.at = end
        _take(content, walk, marker, start, end)
        if len(walk.scans) > max_scans:
            raise UndecodableImage(f"the JPEG has more than {max_scans} scans")
    if not walk.scans or not walk.components:
        raise UndecodableImage("the JPEG image is damaged or truncated: it has no picture")
    return Jpeg(
        content=b"".join([*walk.kept, EOI]),
        is_clean=True,
        orientation=walk.orientation,
        scans=tuple(walk.scans),
        components=walk.components,
        is_truncated=not has_end,
    )


def _segment_at(content: bytes, at: int) -> tuple[int, int, int] | None:
    """Returns marker, start and end of the next segment; None if it is not complete."""
    at = content.find(b"\xff", at)
    while at >= 0 and content[at + 1 : at + 2] == b"\xff":  # fill bytes
        at += 1
    if at < 0 or at + 2 > len(content):
        return None
    marker = content[at + 1]
    if marker == EOI[1] or marker == 0 or marker in WITHOUT_LENGTH:
        return marker, at, at + 2
    if at + 4 > len(content):
        return None
    end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
    return (marker, at, end) if at + 4 <= end <= len(content) else None


def _take(content: bytes, walk: _Walk, marker: int, start: int, end: int) -> None:
    body = content[start + 4 : min(end, start + 20)]
    if marker == APP1 and body.startswith(b"Exif\0\0") and walk.orientation is None:
        walk.orientation = exif_orientation(content[start + 4 : end])
    # DNL is ignored by decoders.
    if marker in (COMMENT, DNL) or APP0 <= marker <= APP15:
        _take_colour(walk, marker, body)
        return
    if marker in FRAMES:
        count = content[start + 9] if end - start >= 10 else 0
        walk.components = tuple(content[start + 10 : min(end, start + 10 + 3 * count) : 3])
    if marker == SOS:
        end = _take_scan(content, walk, start, end)
    walk.kept.append(content[start:end])


def _take_colour(walk: _Walk, marker: int, body: bytes) -> None:
    """Keeps what an application segment says about colours."""
    if marker == APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        if JFIF not in walk.kept:
            walk.kept.append(JFIF)
    elif marker == APP14 and body.startswith(b"Adobe") and len(body) > ADOBE_TRANSFORM_AT:
        at = ADOBE_TRANSFORM_AT
        walk.kept.append(ADOBE + body[at : at + 1])


def _take_scan(content: bytes, walk: _Walk, start: int, end: int) -> int:
    """Adds a scan; returns the end of its data."""
    count = content[start + 4]
    try:
        first, last, _ = struct.unpack_from("BBB", content, start + 5 + 2 * count)
    except struct.error:
        raise UndecodableImage("the JPEG image is damaged or truncated") from None
    found = MARKER_IN_SCAN.search(content, end)
    walk.at = found.start() if found else len(content)
    components = tuple(content[start + 5 : start + 5 + 2 * count : 2])
    walk.scans.append(Scan(components, first, last, found is not None))
    return walk.at
