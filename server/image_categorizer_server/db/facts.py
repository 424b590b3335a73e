"""Facts about pictures, as columns of `images`."""

import json
from typing import TypedDict

from image_categorizer_server.domain.picture import Colour, PictureFacts

HASH_BITS = 64
HASH_DIGITS = HASH_BITS // 4
FactColumns = tuple[int | None, str | None, float | None, float | None]


class FactsRow(TypedDict):
    """The columns; all are null, or none."""

    perceptual_hash: int | None
    dominant_colours: str  # JSON
    brightness: float
    sharpness: float


def facts_to_row(facts: PictureFacts | None) -> FactColumns:
    """Returns the columns, in the order of `FactsRow`."""
    if facts is None:
        return None, None, None, None
    colours = json.dumps([[colour.name, colour.share] for colour in facts.dominant_colours])
    return hash_to_bigint(facts.perceptual_hash), colours, facts.brightness, facts.sharpness


def facts_from_row(row: FactsRow) -> PictureFacts | None:
    """Returns the facts; None if an earlier release has stored the image."""
    if row["perceptual_hash"] is None:
        return None
    return PictureFacts(
        perceptual_hash=f"{row['perceptual_hash'] % 2**HASH_BITS:0{HASH_DIGITS}x}",
        dominant_colours=tuple(Colour(*pair) for pair in json.loads(row["dominant_colours"])),
        brightness=row["brightness"],
        sharpness=row["sharpness"],
    )


def hash_to_bigint(perceptual_hash: str) -> int:
    """Returns a hash as PostgreSQL stores it: 64 bits, of which the first is a sign."""
    number = int(perceptual_hash, 16)
    return number - 2**HASH_BITS if number >= 2 ** (HASH_BITS - 1) else number
