"""Facts about a picture that are kept with it."""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from image_categorizer_server.domain.picture import Colour, PictureFacts
from image_categorizer_server.inference.images.decode import Pixels

COLOURS = 5
COLOUR_SIDE_PX = 32
SIDE_PX = 512
REDUCING_GAP = 1.0


def facts_of(pixels: Pixels) -> PictureFacts:
    """Returns the facts about a picture."""
    reduced = pixels.shrunk(SIDE_PX, REDUCING_GAP)
    grey = reduced.convert("L")
    counts = np.asarray(grey.histogram(), np.int64)
    return PictureFacts(
        perceptual_hash=perceptual_hash(grey),
        dominant_colours=dominant_colours(reduced),
        brightness=float(counts @ np.arange(256)) / float(255 * counts.sum()),
        sharpness=_sharpness(np.asarray(grey)),
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


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """Returns the variance of the Laplacian (Pech-Pacheco et al. 2000) of uint8 (H, W)."""
    if min(grey.shape) < 3:
        return 0.0
    # Small whole numbers: exact, and half the memory of floats.
    values = grey.astype(np.int16)
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1]
    laplacian += values[1:-1, :-2]
    laplacian += values[1:-1, 2:]
    laplacian -= 4 * values[1:-1, 1:-1]
    flat = laplacian.astype(np.float32).ravel()
    return max(0.0, float(flat @ flat) / flat.size - float(flat.mean()) ** 2)
