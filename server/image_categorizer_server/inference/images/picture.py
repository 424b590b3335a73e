"""What is stored of an image that was sent."""

from image_categorizer_server.domain.image import Picture
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.formats import format_of


class PictureMaker:
    """Makes what is stored of an image; thread-safe."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def picture_of(self, content: bytes) -> Picture:
        """Returns what is stored of an encoded image.

        Raises:
            InvalidRequest: the image cannot be decoded; see `Decoder.decode`.
        """
        # Small, which is quicker: only whether it can be decoded matters, and its size.
        pixels = self._decoder.decode(content, (1, 1))
        return Picture(content, format_of(content) or "", pixels.width_px, pixels.height_px)
