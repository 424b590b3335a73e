"""A Hugging Face folder with a tiny untrained network, in 200 KB.

Tests that use the same categories and seed share an export, which takes seconds.
"""

import json
from pathlib import Path
from typing import Any

CARD: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def write_tiny_model(folder: Path, categories: list[str], seed: int = 0, **config: Any) -> Path:
    """Writes config.json, model.safetensors and preprocessor_config.json; returns the folder."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(seed)
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    labels = {
        "num_labels": len(categories),
        "id2label": dict(enumerate(categories)),
        "label2id": {name: index for index, name in enumerate(categories)},
    }
    described = ResNetConfig(**(shape | labels | config))  # type: ignore[arg-type]
    network = ResNetForImageClassification(described)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CARD))
    return folder
