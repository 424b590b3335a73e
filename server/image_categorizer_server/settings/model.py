"""Settings of the model repository."""

from pathlib import Path

from pydantic import Field

from image_categorizer_server.settings.group import Group


class ModelSettings(Group):
    """The model repository."""

    default: str = Field(
        "starter", min_length=1, description="Model that answers a request which names none."
    )
    scan_interval_s: float = Field(
        2.0, gt=0, le=3600, description="How often MODEL_PATH is looked through for changes."
    )
    cache_path: Path = Field(
        Path("~/.cache/image-categorizer"),
        description="Folder for what follows from models (ONNX exports); may be deleted.",
    )
    export_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="Most time for one export to ONNX."
    )
    quantize_max_loss_points: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Most accuracy that int8 may lose against fp32, in percent of the pictures.",
    )
    quantize_min_pictures: int = Field(
        16, ge=1, le=100_000, description="Fewest pictures to calibrate or to compare with."
    )
    quantize_max_pictures: int = Field(
        64, ge=1, le=100_000, description="Most pictures to calibrate with; more are thinned out."
    )
