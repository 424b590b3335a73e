"""Hugging Face folders with tiny untrained detectors, each in 300 KB."""

import json
from pathlib import Path
from typing import Any

SIDE_PX = 64
QUERIES = 8
CARD: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": SIDE_PX, "width": SIDE_PX},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}
PROCESSORS = {
    "detr": "DetrImageProcessor",
    "conditional_detr": "ConditionalDetrImageProcessor",
    "deformable_detr": "DeformableDetrImageProcessor",
    "rt_detr": "RTDetrImageProcessor",
    "yolos": "YolosImageProcessor",
}
BACKBONE: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
DETR: dict[str, Any] = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": QUERIES,
}
RT_DETR: dict[str, Any] = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [16, 16, 16],
    "encoder_layers": 1,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "d_model": 16,
    "num_queries": QUERIES,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_denoising": 0,
}
STAGES = ["stage2", "stage3", "stage4"]


def write_tiny_detector(folder: Path, kind: str, categories: list[str], **card: Any) -> Path:
    """Writes config.json, model.safetensors and preprocessor_config.json; returns the folder.

    Args:
        folder: created if it does not exist.
        kind: one of `PROCESSORS`.
        categories: what it finds.
        card: replaces fields of `CARD`.
    """
    import torch
    from transformers import AutoModelForObjectDetection

    torch.manual_seed(0)
    network = AutoModelForObjectDetection.from_config(_config(kind, dict(enumerate(categories))))
    with torch.no_grad():
        # Fresh networks answer nearly the same for all pictures and queries, and rounding decides
        # which of equal queries come first.
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
    network.save_pretrained(folder)
    content = CARD | {"image_processor_type": PROCESSORS[kind]} | card
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder


def _config(kind: str, labels: dict[int, str]) -> Any:
    import transformers

    named: dict[str, Any] = {"id2label": labels, "label2id": {n: i for i, n in labels.items()}}
    if kind == "yolos":
        return transformers.YolosConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=[SIDE_PX, SIDE_PX],
            num_detection_tokens=QUERIES,
            **named,
        )
    if kind == "rt_detr":
        backbone = transformers.RTDetrResNetConfig(**BACKBONE | {"out_features": STAGES})
        return transformers.RTDetrConfig(backbone_config=backbone, **RT_DETR, **named)
    if kind == "deformable_detr":
        plain = transformers.ResNetConfig(**BACKBONE | {"out_features": STAGES})
        return transformers.DeformableDetrConfig(
            backbone_config=plain,
            num_feature_levels=3,
            d_model=32,
            **DETR | {"decoder_layers": 2},
            **named,
        )
    plain = transformers.ResNetConfig(**BACKBONE | {"out_features": STAGES[-1:]})
    made = {"detr": transformers.DetrConfig, "conditional_detr": transformers.ConditionalDetrConfig}
    return made[kind](backbone_config=plain, d_model=16, **DETR, **named)
