"""Makes renditions of stored images."""

import io
from functools import cache

from PIL import Image, features

from image_categorizer_server.domain.rendition import FORMATS, Rendition
from image_categorizer_server.inference.images.decode import DECODING_LIBRARY, Decoder

RENDERER = f"1 {DECODING_LIBRARY}"
"""Changes whenever the same image may become other bytes."""
WEBP_METHOD = 4  # of 0 to 6, the slowest
AVIF_SPEED = 8  # of 0 to 10, the fastest


@cache
def writable_formats() -> tuple[str, ...]:
    """Returns the formats of renditions that this installation writes."""
    return tuple(name for name in FORMATS if name != "avif" or features.check("avif"))


class Renderer:
    """Makes renditions; thread-safe."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def render(self, content: bytes, rendition: Rendition) -> bytes:
        """Returns a rendition of an encoded image, without any of its metadata.

        A large JPEG is decoded at a half, a quarter or an eighth of its size, but not smaller than
        the rendition.

        Raises:
            InvalidRequest: the image cannot be decoded; see `Decoder.decode`.
        """
        # Both sides, because the picture in the file may lie on its side.
        pixels = self._decoder.decode(content, (rendition.whole_px, rendition.whole_px))
        array = pixels.part(rendition.size_px, rendition.part)
        image = Image.fromarray(array, "RGB")
        file = io.BytesIO()
        match rendition.format:
            case "png":
                image.save(file, "PNG")
            case "webp":
                image.save(file, "WEBP", quality=rendition.quality, method=WEBP_METHOD)
            case "avif":
                image.save(file, "AVIF", quality=rendition.quality, speed=AVIF_SPEED, max_threads=1)
            case _:
                image.save(file, "JPEG", quality=rendition.quality)
        return file.getvalue()
