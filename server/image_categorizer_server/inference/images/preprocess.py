"""Preprocessing: makes the input of a network from an encoded image.

    content ─▶ decode ─▶ resize and crop ─▶ input uint8 (H, W, 3)

The graph of the network scales bytes to floats.  Micro-batches therefore stay bytes, a quarter of
the memory to copy, also to a GPU.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from image_categorizer_server.domain.classification import ImageWarning
from image_categorizer_server.domain.picture import Picture
from image_categorizer_server.inference.images.decode import Decoder, Pixels, Resample
from image_categorizer_server.inference.images.formats import format_of
from image_categorizer_server.inference.images.picture import picture_of_seen

Channels = Annotated[tuple[float, float, float], Field()]
Edges = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of a picture."""

# A JPEG is decoded at 1/2, 1/4 or 1/8 of its size only if the result is at least this many times
# larger than the resized image.  Largest difference of a confidence from full decoding, on 24
# photographs of 3 megapixels with MobileNetV2: 0.063 at a factor of 1, 0.025 at 2, 0.010 at 3, 0 at
# 4.  With a network of 32 pixels: 0.10, 0.026, 0.021, 0.013, and 0 at 8, hence the second bound.
DRAFT_FACTOR = 4
MIN_DRAFT_PX = 256
STRIDE_PX = 32
"""A multiple of the strides in use."""
WHOLE_AREA = 5
"""Pixels of the whole picture for boxes, in inputs of the network: more than twice as fine.  Mean
IoU on pasted photographs with 3, 4 and 5 is 0.68, 0.695 and 0.701 for EfficientNet-Lite0."""
MAX_WHOLE_RATIO = 4
"""Longer pictures are squeezed, so that no side is shorter than the network's own."""
RATIOS, RATIO_UNIT = 129, 65_536
PICTURE_PX = 1024
MAX_PICTURE_BYTES = 3 * PICTURE_PX**2
BORDER_GREY = 114
"""Of the border that fills a letterbox, as YOLO networks see it in their training."""


class InputSpec(BaseModel):
    """The input of a network, and how images become it; part of the manifest.

    `value = byte * scale + bias` per channel combines rescaling and normalization.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_px: int = Field(ge=1, le=4096)
    height_px: int = Field(ge=1, le=4096)
    resize: Literal["shortest_edge", "exact", "letterbox"] = Field(
        description="letterbox: the whole picture at its own aspect ratio, in the middle, with a "
        "grey border"
    )
    resize_px: int = Field(
        0,
        ge=0,
        le=8192,
        description="the shortest edge after resizing; for exact both edges, or 0 for no crop",
    )
    resample: Resample
    crop: Literal["down", "even"] = Field(
        "down",
        description="how half a pixel beside the crop is rounded: down as in transformers, or to "
        "an even number as in torchvision",
    )
    colour: Literal["rgb", "bgr", "grey"] = Field(
        "rgb",
        description="what the network sees: channels in reverse order, or one channel; inputs have "
        "three in any case",
    )
    scale: Channels
    bias: Channels


@dataclass(frozen=True, slots=True)
class Input:
    """The input for one image."""

    array: NDArray[np.uint8]
    """uint8 (H, W, 3)."""
    decode_ms: float
    width_px: int
    """Width of the upright image."""
    height_px: int
    warnings: tuple[ImageWarning, ...] = ()
    picture: NDArray[np.uint8] | None = None
    """uint8 (H, W, 3): the upright image, its longer side at most `PICTURE_PX`; if requested."""
    whole: NDArray[np.uint8] | None = None
    """uint8 (H, W, 3): an input with the whole picture, see `whole_size`; if requested."""
    stored: Picture | None = None
    """What is stored of the image; if requested, and if it takes no further decoding."""


class Preprocessor:
    """Makes inputs for one model; thread-safe."""

    def __init__(self, decoder: Decoder, spec: InputSpec) -> None:
        self._decoder = decoder
        self._spec = spec
        width_px = spec.resize_px or spec.width_px
        height_px = spec.resize_px or spec.height_px
        self._min_px = (
            max(width_px * DRAFT_FACTOR, MIN_DRAFT_PX),
            max(height_px * DRAFT_FACTOR, MIN_DRAFT_PX),
        )

    def prepare(
        self,
        content: bytes,
        *,
        with_picture: bool = False,
        with_whole: bool = False,
        with_stored: bool = False,
    ) -> Input:
        """Returns the input for one encoded image; blocks for milliseconds.

        Args:
            content: the encoded image.
            with_picture: whether to keep a small copy of the image too, for its heat map.
            with_whole: whether to make an input with the whole picture too, for boxes.
            with_stored: whether to make what is stored of the image too.

        Raises:
            InvalidRequest: see `Decoder.decode`.
        """
        start = time.perf_counter()
        width_px, height_px = self._min_px
        if with_picture:
            width_px, height_px = max(width_px, PICTURE_PX), max(height_px, PICTURE_PX)
        min_px = width_px, height_px
        stored = None
        if with_stored:
            pixels, clean = self._decoder.decode_clean(content, min_px, min_px)
            stored = picture_of_seen(pixels, clean, format_of(content))
        else:
            pixels = self._decoder.decode(content, min_px)
        array = reduce(pixels, self._spec)
        picture = pixels.fitted(PICTURE_PX) if with_picture else None
        whole = reduced_whole(pixels, self._spec) if with_whole else None
        return Input(
            array,
            (time.perf_counter() - start) * 1000,
            pixels.width_px,
            pixels.height_px,
            pixels.warnings,
            picture,
            whole,
            stored,
        )


def reduce(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Returns uint8 (H, W, 3) of the size that the network expects."""
    resized = resized_size(pixels.width_px, pixels.height_px, spec)
    crop = crop_of(resized, spec)
    if spec.resize != "letterbox":
        return _cropped(pixels, resized, crop, spec)
    boxed = np.full((spec.height_px, spec.width_px, 3), BORDER_GREY, np.uint8)
    left, top = -crop[0], -crop[1]
    inner = boxed[top : top + resized[1], left : left + resized[0]]
    inner[...] = _cropped(pixels, resized, (0, 0, *resized), spec)
    return boxed


def reduced_whole(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Returns uint8 (H, W, 3): the whole picture in the size that `whole_size` says."""
    size_px = whole_size(pixels.width_px, pixels.height_px, spec)
    return _cropped(pixels, size_px, (0, 0, *size_px), spec)


def _cropped(
    pixels: Pixels, resized: tuple[int, int], crop: tuple[int, int, int, int], spec: InputSpec
) -> NDArray[np.uint8]:
    if spec.colour != "grey":
        return pixels.resized(*resized, crop, spec.resample)
    grey = pixels.grey().resized(*resized, crop, spec.resample)
    return np.repeat(grey[..., None], 3, axis=-1)


def whole_size(width_px: int, height_px: int, spec: InputSpec) -> tuple[int, int]:
    """Returns the width and the height in which a network sees a whole picture.

    The area is about the same for all pictures, `WHOLE_AREA` times that of the network's input: the
    time and the memory of a call are bounded.  Sides differ from the network's by multiples of
    `STRIDE_PX`, so that the layers pad as they do for its own size, and the cells of its features
    are where they are known to be (see `centres`).  Within that, the aspect ratio is kept.
    """
    ratio = min(max(width_px / height_px, 1 / MAX_WHOLE_RATIO), MAX_WHOLE_RATIO)
    area = WHOLE_AREA * spec.width_px * spec.height_px
    wanted_px = (area * ratio) ** 0.5, (area / ratio) ** 0.5
    width, height = (
        own + max(0, round((wanted - own) / STRIDE_PX)) * STRIDE_PX
        for wanted, own in zip(wanted_px, (spec.width_px, spec.height_px), strict=True)
    )
    return width, height


def crop_of(resized: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of the part of the resized image that the network sees.

    The part that a letterbox shows extends beyond the image: left and top are negative or 0.
    """
    if spec.resize == "letterbox":
        left, top = -((spec.width_px - resized[0]) // 2), -((spec.height_px - resized[1]) // 2)
        return left, top, left + spec.width_px, top + spec.height_px
    margin_px = resized[0] - spec.width_px, resized[1] - spec.height_px
    left, top = (round(px / 2) if spec.crop == "even" else px // 2 for px in margin_px)
    return left, top, left + spec.width_px, top + spec.height_px


def resized_size(width_px: int, height_px: int, spec: InputSpec) -> tuple[int, int]:
    """Returns the width and the height before the crop, rounded down as in transformers."""
    if spec.resize == "exact":
        return spec.resize_px or spec.width_px, spec.resize_px or spec.height_px
    if spec.resize == "letterbox":
        factor = min(spec.width_px / width_px, spec.height_px / height_px)
        return max(1, round(width_px * factor)), max(1, round(height_px * factor))
    longer = int(spec.resize_px * max(width_px, height_px) / min(width_px, height_px))
    return (spec.resize_px, longer) if width_px <= height_px else (longer, spec.resize_px)


def seen_part(size_px: tuple[int, int], spec: InputSpec) -> Edges:
    """Returns the part of an image that the network's own input shows.

    Args:
        size_px: width and height of the upright image.
        spec: how images become inputs.
    """
    width, height = resized_size(*size_px, spec)
    left, top, right, bottom = crop_of((width, height), spec)
    return left / width, top / height, right / width, bottom / height


def wide(spec: InputSpec) -> InputSpec:
    """Returns the shape of inputs with whole pictures that are twice as wide as high."""
    width_px, height_px = whole_size(2 * spec.width_px, spec.width_px, spec)
    return spec.model_copy(update={"width_px": width_px, "height_px": height_px})


def per_channel(numbers: Sequence[float]) -> NDArray[np.float32]:
    """Returns scale or bias for planes (N, C, H, W): float32 (), or (C, 1, 1) if channels differ.

    Of pixels whose channels lie side by side, ONNX Runtime scales each channel fifteen times as
    slowly: 1.1 ms of one core for 224 x 224.  In int8 it moves the scaling of planes there, but one
    number for all channels is as fast in any order.
    """
    found = np.array(numbers, np.float32)
    is_one = bool((found == found[0]).all())
    return found[:1].reshape(()) if is_one else found.reshape(-1, 1, 1)


def largest_whole_bytes(spec: InputSpec) -> int:
    """Returns a bound on the size of an input with a whole picture, of any picture."""
    ratios = np.geomspace(1 / MAX_WHOLE_RATIO, MAX_WHOLE_RATIO, RATIOS)
    sizes = [whole_size(round(ratio * RATIO_UNIT), RATIO_UNIT, spec) for ratio in ratios]
    # Between two ratios, no picture is wider than at the second, or higher than at the first.
    return 3 * max(wider[0] * higher[1] for higher, wider in itertools.pairwise(sizes))


def sample_inputs(spec: InputSpec) -> Sequence[NDArray[np.uint8]]:
    """Returns synthetic inputs uint8 (H, W, 3): noise, patches and flat grey."""
    random = np.random.default_rng(0)
    shape = (spec.height_px, spec.width_px, 3)
    noise = random.integers(0, 256, (2, *shape), dtype=np.uint8)
    coarse = random.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    tile = (-(-spec.height_px // 4), -(-spec.width_px // 4), 1)
    patches = [
        np.kron(patch, np.ones(tile, np.uint8))[: spec.height_px, : spec.width_px]
        for patch in coarse
    ]
    return [*noise, *patches, np.full(shape, 128, np.uint8)]
