"""Encodes pixels as image files."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG_COMPRESSION = 1  # of 0 to 9


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """Returns uint8 (H, W, 3) as a PNG file, compressed fast."""
    file = io.BytesIO()
    Image.fromarray(array, "RGB").save(file, "PNG", compress_level=PNG_COMPRESSION)
    return file.getvalue()


def encode_jpeg(array: NDArray[np.uint8], quality: int) -> bytes:
    """Returns uint8 (H, W, 3) as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(array, "RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()
