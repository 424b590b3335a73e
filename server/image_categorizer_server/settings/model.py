"""Settings of the model repository."""

from pathlib import Path

from pydantic import Field

from image_categorizer_server.settings.group import Group


class ModelSettings(Group):
    """The model repository."""

    default: str = Field(
        "efficientnet_lite0",
        min_length=1,
        description="Model that answers requests without a model.",
    )
    packaged: bool = Field(
        True, description="Whether the repository holds the packaged model `efficientnet_lite0`."
    )
    packaged_fast: bool = Field(
        True,
        description="Whether the packaged model has an int8 version, alias `fast`, where a CPU "
        "with VNNI or AMX answers.",
    )
    roll_up: bool = Field(
        False,
        description="Whether requests that do not say get the deepest category that is certain "
        "enough (`roll_up`). A model's manifest may differ.",
    )
    roll_up_threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Confidence that an answer with `roll_up` must reach where the request has no "
        "`confidence_threshold`.",
    )
    scan_interval_s: float = Field(
        2.0,
        gt=0,
        le=3600,
        description="Time between two looks for changes in MODEL_PATH, in seconds.",
    )
    cache_path: Path = Field(
        Path("~/.cache/image-categorizer"),
        description="Folder for the packaged model and ONNX exports. It may be deleted.",
    )
    max_concurrent_loads: int = Field(
        2, ge=1, le=64, description="Maximum number of models that are loaded at a time."
    )
    max_resident_bytes: int = Field(
        0,
        ge=0,
        description="Maximum memory of all loaded models of a process, about, in bytes; 0 for no "
        "bound. Versions without an alias are unloaded, those used least recently first, and "
        "loaded again when a request asks for them.",
    )
    export_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="Maximum time of one export to ONNX, in seconds."
    )
    quantize_max_loss_points: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Maximum loss of accuracy of int8 against fp32, in percent of the pictures, "
        "rounded down to whole pictures. Above 0, one picture is always allowed.",
    )
    quantize_min_pictures: int = Field(
        16,
        ge=1,
        le=100_000,
        description="Minimum number of pictures to calibrate or to compare with.",
    )
    quantize_max_pictures: int = Field(
        64,
        ge=1,
        le=100_000,
        description="Maximum number of pictures to calibrate with. More are sampled evenly.",
    )
