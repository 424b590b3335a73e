"""Values about renditions: pictures made of stored images, such as thumbnails."""

from dataclasses import dataclass
from math import ceil

FITS = ("scale_down", "contain", "cover")
"""How a picture fits a width and a height; the first is the default.

`contain` shows all of it, `scale_down` as well but never larger than it is, and `cover` fills the
width and the height and cuts off the rest.
"""
FORMATS = ("jpeg", "png", "webp", "avif")
"""The formats; the first is the default."""
DEFAULT_QUALITY = 85


@dataclass(frozen=True, slots=True)
class ContentWish:
    """How a caller wants to see an image."""

    width_px: int = 0
    """0: as the height demands."""
    height_px: int = 0
    fit: str = ""
    format: str = ""
    quality: int = 0


@dataclass(frozen=True, slots=True)
class Rendition:
    """What is made of an image: a part of it, resized."""

    size_px: tuple[int, int]
    """The width and the height of what is made."""
    part: tuple[float, float, float, float]
    """The part of the image: left, top, right and bottom, as shares of its sides."""
    format: str
    quality: int
    """1 to 100; 0 for PNG, which loses nothing."""

    @property
    def name(self) -> str:
        """A name that no other rendition of the same image has."""
        return f"{self.size_px} {self.part} {self.format} {self.quality}"

    @property
    def whole_px(self) -> int:
        """The longest side that the whole image has at the same scale."""
        left, top, right, bottom = self.part
        return ceil(max(self.size_px[0] / (right - left), self.size_px[1] / (bottom - top)))


def plan(size_px: tuple[int, int], wish: ContentWish, max_side_px: int) -> Rendition:
    """Returns what is made of an image.

    Args:
        size_px: the width and the height of the upright image.
        wish: a valid one.
        max_side_px: the longest side that is made.
    """
    image_format = wish.format or FORMATS[0]
    quality = 0 if image_format == "png" else wish.quality or DEFAULT_QUALITY
    box_px = wish.width_px or max_side_px, wish.height_px or max_side_px
    scales = [side / own for side, own in zip(box_px, size_px, strict=True)]
    if wish.fit == "cover":
        shares = [scale / max(scales) for scale in scales]
        left, top = ((1 - share) / 2 for share in shares)
        return Rendition(box_px, (left, top, 1 - left, 1 - top), image_format, quality)
    scale = min(scales)
    if (wish.fit or FITS[0]) == "scale_down" or not (wish.width_px or wish.height_px):
        scale = min(scale, 1.0)
    width_px, height_px = (max(1, round(side * scale)) for side in size_px)
    return Rendition((width_px, height_px), (0.0, 0.0, 1.0, 1.0), image_format, quality)
