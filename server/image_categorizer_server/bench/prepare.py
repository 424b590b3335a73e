"""Pictures and a model for measuring: made here, so that every machine measures the same."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

MODEL = "mobilenet_v2"
WIDTH_PX, HEIGHT_PX = 500, 375
PICTURES = 64
QUALITY = 87


def pictures() -> list[bytes]:
    """Returns JPEGs whose detail falls off with frequency as a photograph's does (Field 1987)."""
    random = np.random.default_rng(0)
    return [_jpeg(random) for _ in range(PICTURES)]


def _jpeg(random: np.random.Generator) -> bytes:
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
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def write_model(folder: Path) -> None:
    """Writes MobileNetV2 with random weights as a Hugging Face folder: as fast as a trained one."""
    import torch
    from transformers import (
        MobileNetV2Config,
        MobileNetV2ForImageClassification,
        MobileNetV2ImageProcessorPil,
    )

    torch.manual_seed(0)
    labels = {index: f"category {index}" for index in range(1000)}
    network = MobileNetV2ForImageClassification(MobileNetV2Config(id2label=labels))
    network.save_pretrained(folder)
    MobileNetV2ImageProcessorPil().save_pretrained(folder)
