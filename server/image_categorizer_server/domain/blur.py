"""Rectangles of an image that are blurred before it is stored."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from image_categorizer_server.domain.classification import Box
from image_categorizer_server.errors import InvalidRequest

MAX_RECTANGLES = 64
PIXELS = re.compile(r"(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5})", re.ASCII)
SHARE = r"(\d{1,3}(?:\.\d{1,9})?)"
PERCENT = re.compile(rf"percent:{SHARE},{SHARE},{SHARE},{SHARE}", re.ASCII)
SPELLING = (
    "must be left,top,right,bottom in pixels, or percent: and the same in hundredths, with "
    "left < right and top < bottom"
)


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle of the upright image."""

    edges: tuple[float, float, float, float]
    """Left, top, right, bottom."""
    is_percent: bool
    """Whether they are hundredths of the sides, and not pixels."""

    def box(self, width_px: int, height_px: int) -> Box:
        """Returns the pixels of an image that are in it, also in part.

        Raises:
            InvalidRequest: none is.
        """
        left, top, right, bottom = self.edges
        if self.is_percent:
            left, right = left * width_px / 100, right * width_px / 100
            top, bottom = top * height_px / 100, bottom * height_px / 100
        if left >= width_px or top >= height_px:
            text = f"is outside of the image, which has {width_px} x {height_px} pixels"
            raise InvalidRequest.of([("blur", text)])
        return Box(
            math.floor(left),
            math.floor(top),
            min(math.ceil(right), width_px),
            min(math.ceil(bottom), height_px),
        )


def rectangles_of(texts: Sequence[str]) -> tuple[Rectangle, ...]:
    """Returns the rectangles that texts name.

    Raises:
        InvalidRequest: one is malformed, or there are too many.
    """
    if len(texts) > MAX_RECTANGLES:
        text = f"must have at most {MAX_RECTANGLES} rectangles, has {len(texts)}"
        raise InvalidRequest.of([("blur", text)])
    return tuple(_rectangle(text) for text in texts)


def _rectangle(text: str) -> Rectangle:
    percent = PERCENT.fullmatch(text)
    found = percent or PIXELS.fullmatch(text)
    if found is None:
        raise InvalidRequest.of([("blur", SPELLING)])
    left, top, right, bottom = map(float, found.groups())
    if left >= right or top >= bottom or (percent and max(right, bottom) > 100):
        raise InvalidRequest.of([("blur", SPELLING)])
    return Rectangle((left, top, right, bottom), is_percent=percent is not None)
