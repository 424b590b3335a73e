"""Values about pictures: what is stored of an image that was sent."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour that stands for a part of a picture."""

    name: str
    """As CSS writes it: `#rrggbb`."""
    share: float
    """Of the pixels, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture looks like, in numbers."""

    perceptual_hash: str
    """64 bits, 16 hexadecimal digits; few bits differ between pictures that look alike."""
    dominant_colours: tuple[Colour, ...]
    """At most five, the largest first."""
    brightness: float
    """The mean of the grey values, in [0, 1]."""
    sharpness: float
    """The variance of the Laplacian of the grey values, which are in [0, 255]; at least 0."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is stored of an image that was sent."""

    content: bytes
    format: str
    """The name that Pillow has for it, such as `JPEG`."""
    width_px: int
    """Of the upright image."""
    height_px: int
    facts: PictureFacts
