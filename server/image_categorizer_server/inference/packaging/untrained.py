"""Models with random weights, for benchmarks."""

from pathlib import Path


def write_mobilenet_v2(folder: Path, categories: int) -> None:
    """Writes MobileNetV2 as a Hugging Face folder. The weights are the same at every call."""
    import torch
    from transformers import (
        MobileNetV2Config,
        MobileNetV2ForImageClassification,
        MobileNetV2ImageProcessorPil,
    )

    torch.manual_seed(0)
    labels = {index: f"category {index}" for index in range(categories)}
    network = MobileNetV2ForImageClassification(MobileNetV2Config(id2label=labels))
    network.save_pretrained(folder)
    MobileNetV2ImageProcessorPil().save_pretrained(folder)
