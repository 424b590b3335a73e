"""Plain values about models and the server."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from image_categorizer_server.domain.classification import Category, ModelRef


class Localization(Enum):
    """How a model tells where a category is; see `Model.Localization` in metadata.proto."""

    NONE = "LOCALIZATION_UNSPECIFIED"
    CLASS_ACTIVATION = "CLASS_ACTIVATION"
    ATTENTION_ROLLOUT = "ATTENTION_ROLLOUT"


class ModelState(Enum):
    """How far the server is with a model."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    UNLOADED = "UNLOADED"


Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of a model, as the server knows it."""

    ref: ModelRef
    state: ModelState
    state_message: str
    is_default: bool
    categories: tuple[Category, ...] = field(repr=False)
    input_width_px: int
    input_height_px: int
    activation: Activation
    runtime: str
    device: str
    licence: str
    origin: str
    aliases: tuple[str, ...]
    canary_percent: float
    """Share of the requests without a version that it answers as `canary`."""
    precision: str
    localization: Localization


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server is and accepts; the limits are those of `Limits` in metadata.proto."""

    version: str
    image_formats: tuple[str, ...]
    default_model: str
    max_image_bytes: int
    max_image_pixels: int
    max_side_px: int
    max_aspect_ratio: float
    max_filter_categories: int
    default_deadline_s: float
    max_deadline_s: float
    max_stream_in_flight: int
    max_batch_items: int
    max_batch_bytes: int
