"""Encoded bytes → the network's input, as the model's own preprocessing card says.

    content ─▶ decode ─▶ reduce and crop in one step ─▶ input uint8 (H, W, 3)

Reducing the whole image and then cropping its middle equals reducing only the part that the crop keeps;
`box` names that part in the image's own pixels.  Scaling to floats happens inside the network's graph, so
that micro-batches stay bytes: a quarter of the memory to copy, on the way to a GPU too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from image_categorizer_server.inference.decode import Decoder, Pixels, Resample

Channels = Annotated[tuple[float, float, float], Field()]


class InputSpec(BaseModel):
    """What a network expects to be given; part of the manifest, resolved once when a model is added.

    `value = byte * scale + bias`, a channel each, holds rescaling and normalisation together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_px: int = Field(ge=1, le=4096)
    height_px: int = Field(ge=1, le=4096)
    resize: Literal["shortest_edge", "exact"]
    resize_px: int = Field(0, ge=0, le=8192, description="the shortest edge after resizing; 0 where exact")
    resample: Resample
    scale: Channels
    bias: Channels


@dataclass(frozen=True, slots=True)
class Input:
    """A model-ready input and what it cost."""

    array: NDArray[np.uint8]
    """uint8 (H, W, 3)."""
    decode_ms: float


class Preprocessor:
    """Makes inputs for one model; may be used from several threads at once."""

    def __init__(self, decoder: Decoder, spec: InputSpec) -> None:
        self._decoder = decoder
        self._spec = spec
        least = (spec.resize_px,) * 2 if spec.resize == "shortest_edge" else (spec.width_px, spec.height_px)
        self._least_px = (least[0], least[1])

    def prepare(self, content: bytes) -> Input:
        """Returns the input for one encoded image; blocks for milliseconds.

        Raises:
            InvalidRequest: expected; as `Decoder.decode` says.
        """
        start = time.perf_counter()
        pixels = self._decoder.decode(content, self._least_px)
        array = reduce(pixels, self._spec)
        return Input(array, (time.perf_counter() - start) * 1000)


def reduce(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Returns uint8 (H, W, 3) of the size the network expects."""
    box = kept_box(pixels.width_px, pixels.height_px, spec)
    return pixels.resized(spec.width_px, spec.height_px, box, spec.resample)


def kept_box(width_px: int, height_px: int, spec: InputSpec) -> tuple[float, float, float, float]:
    """Returns (left, top, right, bottom) of what reaches the network, in the image's own pixels.

    Rounds as transformers does: the longer edge down, the crop's corner to the upper left.
    """
    if spec.resize == "exact":
        return 0.0, 0.0, float(width_px), float(height_px)
    longer = int(spec.resize_px * max(width_px, height_px) / min(width_px, height_px))
    resized = (spec.resize_px, longer) if width_px <= height_px else (longer, spec.resize_px)
    left, top = (resized[0] - spec.width_px) // 2, (resized[1] - spec.height_px) // 2
    across, down = width_px / resized[0], height_px / resized[1]
    return left * across, top * down, (left + spec.width_px) * across, (top + spec.height_px) * down


def stack(inputs: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Returns N inputs as one micro-batch, uint8 (N, H, W, 3)."""
    return np.stack(inputs)
