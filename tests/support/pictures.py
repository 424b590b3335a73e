"""Generated pictures for tests, which need no licence."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(width_px: int = 320, height_px: int = 240, seed: int = 0) -> NDArray[np.uint8]:
    """Returns uint8 (H, W, 3) with smooth parts, edges and some noise, like a photograph."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height_px, :width_px]
    waves = [np.sin(x / a + y / b) for a, b in random.uniform(4, 60, (3, 2))]
    blocks = (
        random.integers(0, 2, (3, 8, 8)).repeat(-(-height_px // 8), 1).repeat(-(-width_px // 8), 2)
    )
    picture = (
        128 + 60 * np.stack(waves, -1) + 40 * blocks[:, :height_px, :width_px].transpose(1, 2, 0)
    )
    return (picture + random.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


def encoded(
    picture: NDArray[np.uint8] | Image.Image, image_format: str = "JPEG", **options: Any
) -> bytes:
    """Returns the picture as an image file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def jpeg(width_px: int = 320, height_px: int = 240, seed: int = 0, **options: Any) -> bytes:
    """Returns a JPEG of a scene."""
    return encoded(scene(width_px, height_px, seed), "JPEG", **({"quality": 90} | options))


def randomly_damaged(content, random, count):
    """Yields copies of a file, each with four bytes changed."""
    for _ in range(count):
        damaged = bytearray(content)
        for at in random.integers(0, len(damaged), 4):
            damaged[at] = random.integers(0, 256)
        yield bytes(damaged)
