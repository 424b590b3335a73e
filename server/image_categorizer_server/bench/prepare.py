"""Pictures and a model to measure with, the same on every machine."""

from pathlib import Path

import numpy as np

from image_categorizer_server.inference.images.encode import encode_jpeg
from image_categorizer_server.inference.packaging.untrained import write_mobilenet_v2

MODEL = "mobilenet_v2"
WIDTH_PX, HEIGHT_PX = 500, 375
PICTURES = 64
QUALITY = 87


def pictures() -> list[bytes]:
    """Returns JPEGs with the amplitude spectrum of photographs, 1/f (Field 1987)."""
    random = np.random.default_rng(0)
    return [_picture(random) for _ in range(PICTURES)]


def _picture(random: np.random.Generator) -> bytes:
    rows, columns = np.fft.fftfreq(HEIGHT_PX)[:, None], np.fft.rfftfreq(WIDTH_PX)[None]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 1 / WIDTH_PX)
    channels = []
    for _ in range(3):
        noise = np.fft.rfft2(random.normal(size=(HEIGHT_PX, WIDTH_PX)))
        waves = np.fft.irfft2(noise * falloff, (HEIGHT_PX, WIDTH_PX))
        channels.append(128 + 45 * waves / waves.std())
    # Photographs vary far less in colour than in brightness.
    grey = np.mean(channels, 0, keepdims=True)
    pixels = (0.75 * grey + 0.25 * np.stack(channels)).clip(0, 255).astype(np.uint8)
    return encode_jpeg(pixels.transpose(1, 2, 0), QUALITY)


def write_model(folder: Path) -> None:
    """Writes MobileNetV2 with random weights, which runs as fast as a trained one."""
    write_mobilenet_v2(folder, categories=1000)
