"""What is stored of an image that was sent: its picture, upright, and nothing else.

A JPEG, PNG or WebP file that is upright loses all that is not its picture, and is not encoded anew.
Others are encoded anew: those of lossy formats as JPEG, those of lossless formats as PNG.  So are
those of which a part is blurred.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from image_categorizer_server.domain.blur import Rectangle
from image_categorizer_server.domain.picture import Picture
from image_categorizer_server.inference.images.decode import Decoder, Pixels, reduction_of
from image_categorizer_server.inference.images.facts import SIDE_PX, facts_of
from image_categorizer_server.inference.images.formats import format_of

LOSSY = frozenset({"JPEG", "AVIF", "HEIF"})
JPEG_QUALITY = 95
# A larger JPEG that is stored as it is need not be decoded at its full size.
MIN_PX = SIDE_PX, SIDE_PX
PNG_COMPRESSION = 6  # of 0 to 9


class PictureMaker:
    """Makes what is stored of an image; thread-safe."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def picture_of(
        self, content: bytes, keep_metadata: bool = False, blur: Sequence[Rectangle] = ()
    ) -> Picture:
        """Returns what is stored of an encoded image.

        Args:
            content: the image.
            keep_metadata: whether the bytes are stored as they are; not with `blur`.
            blur: what nobody may see.

        Raises:
            InvalidRequest: the image cannot be decoded (see `Decoder.decode`), or a rectangle is
                outside of it.
        """
        pixels, clean = self._decoder.decode_clean(content, None if blur else MIN_PX)
        if blur:
            pixels, clean = blurred(pixels, blur), None
        image_format = format_of(content)
        if keep_metadata:
            clean = content
        elif clean is None:
            image_format, clean = encoded(pixels, image_format)
        facts = facts_of(pixels)
        return Picture(clean, image_format, pixels.width_px, pixels.height_px, facts)

    def blurred(self, content: bytes, rectangles: Sequence[Rectangle]) -> bytes:
        """Returns an encoded image without its metadata, and without what nobody may see.

        Raises:
            InvalidRequest: see `picture_of`.
        """
        pixels, _ = self._decoder.decode_clean(content, None)
        _, clean = encoded(blurred(pixels, rectangles), format_of(content))
        return clean


def picture_of_seen(pixels: Pixels, clean: bytes | None, image_format: str) -> Picture | None:
    """Returns what is stored of an image that was decoded for a model.

    Args:
        pixels: the image, perhaps decoded at a smaller size.
        clean: the file without metadata; None if the picture must be encoded anew.
        image_format: of the file.

    Returns:
        None if the image must be decoded once more: it is encoded anew, or is too small for facts.
    """
    if clean is None:
        return None
    size_px = pixels.width_px, pixels.height_px
    wanted = reduction_of(size_px, MIN_PX) if image_format == "JPEG" else 1
    if pixels.reduction > wanted:
        return None
    if pixels.reduction < wanted:
        pixels = pixels.reduced(wanted // pixels.reduction)
    return Picture(clean, image_format, *size_px, facts_of(pixels))


def blurred(pixels: Pixels, rectangles: Sequence[Rectangle]) -> Pixels:
    """Returns an image in which each rectangle has its mean colour: nothing else of it is left.

    Raises:
        InvalidRequest: a rectangle is outside of the image.
    """
    array = pixels.array().copy()
    for rectangle in rectangles:
        box = rectangle.box(pixels.width_px, pixels.height_px)
        part = array[box.y_min : box.y_max, box.x_min : box.x_max]
        part[:] = np.round(part.mean(axis=(0, 1)))
    return Pixels.of(array)


def encoded(pixels: Pixels, image_format: str) -> tuple[str, bytes]:
    """Returns the format and the bytes of an image of some format that is encoded anew."""
    image = Image.fromarray(pixels.array(), "RGB")
    file = io.BytesIO()
    if image_format in LOSSY:
        image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4", optimize=True)
        return "JPEG", file.getvalue()
    image.save(file, "PNG", compress_level=PNG_COMPRESSION)
    return "PNG", file.getvalue()
