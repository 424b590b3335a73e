"""Facts about a picture that are kept with it."""

import imagehash
import numpy as np
from PIL import Image

from image_categorizer_server.domain.image import Colour, PictureFacts
from image_categorizer_server.inference.images.decode import Pixels

COLOURS = 5
COLOUR_SIDE_PX = 32
SIDE_PX = 512
REDUCING_GAP = 1.0


def facts_of(pixels: Pixels) -> PictureFacts:
    """Returns the facts about a picture."""
    reduced = Image.fromarray(pixels.fitted(SIDE_PX, REDUCING_GAP), "RGB")
    grey = np.asarray(reduced.convert("L"), np.float32)
    return PictureFacts(
        perceptual_hash=perceptual_hash(reduced),
        dominant_colours=dominant_colours(reduced),
        brightness=float(grey.mean()) / 255,
        sharpness=_sharpness(grey),
    )


def perceptual_hash(image: Image.Image) -> str:
    """Returns a hash of 64 bits, 16 hexadecimal digits, that differs by few bits for like pictures.

    It is the sign of the lowest frequencies of the picture, as `imagehash.phash` makes it.
    """
    return str(imagehash.phash(image))


def dominant_colours(image: Image.Image) -> tuple[Colour, ...]:
    """Returns up to five colours that stand for all, with their shares, the largest first."""
    small = image.resize((COLOUR_SIDE_PX, COLOUR_SIDE_PX), Image.Resampling.BOX)
    found = small.quantize(COLOURS, Image.Quantize.MEDIANCUT)
    palette = np.asarray(found.getpalette(), np.uint8).reshape(-1, 3)
    counts = found.histogram()[: len(palette)]
    shares: dict[str, float] = {}
    for (red, green, blue), count in zip(palette.tolist(), counts, strict=True):
        if count:
            name = f"#{red:02x}{green:02x}{blue:02x}"
            shares[name] = shares.get(name, 0.0) + count / COLOUR_SIDE_PX**2
    largest = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Colour(name, share) for name, share in largest)


def _sharpness(grey: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """Returns the variance of the Laplacian (Pech-Pacheco et al. 2000) of float32 (H, W)."""
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).var())
