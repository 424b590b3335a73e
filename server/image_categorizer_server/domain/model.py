"""Values about models and the server."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from image_categorizer_server.domain.classification import Category, ModelRef


class Localization(Enum):
    """How a model locates categories in an image; see `Model.Localization` in metadata.proto."""

    NONE = "LOCALIZATION_UNSPECIFIED"
    CLASS_ACTIVATION = "CLASS_ACTIVATION"
    ATTENTION_ROLLOUT = "ATTENTION_ROLLOUT"
    DETECTION = "DETECTION"


class ModelState(Enum):
    """The state of a model version on the server; see `Model.State` in metadata.proto."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    UNLOADED = "UNLOADED"
    STANDBY = "STANDBY"


Activation = Literal["softmax", "sigmoid", "none"]
"""How the outputs of a network become confidences; `none`: they are."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A version of a model and its state on the server."""

    ref: ModelRef
    state: ModelState
    state_message: str
    is_default: bool
    categories: tuple[Category, ...] = field(repr=False)
    input_width_px: int
    input_height_px: int
    activation: Activation | Literal[""]
    """Empty if the manifest is malformed."""
    runtime: str
    device: str
    licence: str
    origin: str
    aliases: tuple[str, ...]
    canary_percent: float
    """Percentage of the requests without a version that it answers as `canary`."""
    precision: str
    localization: Localization
    resident_bytes: int
    """About how much memory it takes while it is loaded."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The release, formats and limits of the server; see `ServerInfo` in metadata.proto."""

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
