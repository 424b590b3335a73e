"""The image processor of a Hugging Face folder as an input specification, verified on pictures."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from pydantic import BaseModel, Field

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels, Resample
from image_categorizer_server.inference.images.detect import is_detector
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce
from image_categorizer_server.inference.packaging.folder import (
    CARD,
    CONFIG,
    PROCESSOR,
    read_json,
)
from image_categorizer_server.inference.packaging.foreign import is_own

RESAMPLE: dict[int, Resample] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
BY_NAME = {name: number for number, name in RESAMPLE.items()} | {"antialias": 1, "linear": 2}
# ConvNeXt's processor crops below this size, and only resizes from this size on.
CONVNEXT_WARP_PX = 384
SAMPLE_SIZES_PX = ((300, 200), (200, 300), (331, 331), (67, 90))
# In steps of 8 bits: the bytes are equal, floats may round differently.
MAX_STEPS = 0.5
MAX_MESSAGE = 300
# What many folders without a type mean, and what takes a fixed size.
PLAIN_TYPE = "ViTImageProcessor"
TIMM_EXTRA = "pip install 'image-categorizer-server[timm]'"


class Processor(Protocol):
    """The attributes of an image processor in transformers that decide the input."""

    size: Mapping[str, int]
    crop_pct: float
    """Only some classes have it."""
    do_resize: bool
    resample: int
    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: ArrayLike
    image_std: ArrayLike
    data_config: Mapping[str, Any]
    """Only that of timm has it, and none of the others."""

    def __call__(
        self, images: NDArray[np.uint8] | Image.Image, *, return_tensors: str
    ) -> Mapping[str, Sequence[ArrayLike]]:
        """Returns `pixel_values` (N, C, H, W)."""
        ...


class NotSupported(Exception):
    """An image processor makes inputs that our preprocessing cannot make; the text says why."""


@dataclass(frozen=True, slots=True)
class Card:
    """How a folder makes inputs of pictures."""

    spec: InputSpec
    processor: Processor
    content: Mapping[str, object]
    """Of `preprocessor_config.json`, as transformers reads it; empty if it is in config.json."""
    note: str
    """A sentence on what was assumed; empty if nothing."""
    sizes_px: Sequence[tuple[int, int]]
    """Width and height of the pictures on which it was verified."""


def read_input_spec(folder: Path, stretched_px: int | None = None) -> InputSpec:
    """Returns the specification in the folder's `preprocessor_config.json`.

    Args:
        folder: the user's folder.
        stretched_px: as in `read_card`.

    Raises:
        OperatorError: transformers cannot read the file, or the preprocessing is unknown.
    """
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return read_card(folder, config, stretched_px).spec


def read_card(folder: Path, config: Mapping[str, object], stretched_px: int | None = None) -> Card:
    """Returns how the folder makes inputs, verified on pictures.

    Args:
        folder: the user's folder.
        config: the content of its `config.json`, as transformers reads it.
        stretched_px: width and height to which whole pictures are resized instead of what the
            folder says; None for that.

    Raises:
        OperatorError: transformers cannot read it, or the preprocessing is unknown.
    """
    if "pretrained_cfg" in config:
        return _card(folder, _read_processor(folder, {}, config), config, {})
    content = _content(folder)
    if stretched_px is not None:
        size = {"height": stretched_px, "width": stretched_px}
        content |= {"do_resize": True, "do_pad": False, "size": size}
    kind, note = content.get("image_processor_type"), ""
    try:
        return _card(folder, _read_processor(folder, content, config), config, content)
    except OperatorError:
        if kind or is_detector(config):
            raise
        # The class of the network's family does not fit what the file says.
        content = {**content, "image_processor_type": PLAIN_TYPE}
        note = f"{CARD} has no image_processor_type: {PLAIN_TYPE} is assumed. "
    card = _card(folder, _read_processor(folder, content, config), config, content)
    return Card(card.spec, card.processor, content, note + card.note, card.sizes_px)


def _content(folder: Path) -> dict[str, object]:
    """Returns the content of the user's card, with the names that transformers knows today."""
    file = folder / CARD
    content = {}
    if not file.is_file() and (folder / PROCESSOR).is_file():
        file = folder / PROCESSOR
        inner = read_json(file).get("image_processor")
        content = dict(inner) if isinstance(inner, Mapping) else {}
        if not content:
            raise OperatorError(f"{file} has no image_processor.")
    content = content or read_json(file)
    kind = content.get("image_processor_type") or content.pop("feature_extractor_type", None)
    if kind is not None:
        if not isinstance(kind, str):
            raise OperatorError(f"{file}: image_processor_type is not text.")
        content["image_processor_type"] = kind.replace("FeatureExtractor", "ImageProcessor")
    resample = content.get("resample")
    if isinstance(resample, str):
        name = resample.rpartition(".")[2].lower()
        if name not in BY_NAME and not name.isdigit():
            raise OperatorError(f"{file}: resample is '{resample:.40}', not one of {known()}.")
        content["resample"] = BY_NAME[name] if name in BY_NAME else int(name)
    return content


def known() -> str:
    """Returns the names of the filters, as text."""
    return ", ".join(RESAMPLE.values())


def _read_processor(
    folder: Path, content: Mapping[str, object], config: Mapping[str, object]
) -> Processor:
    from transformers import AutoImageProcessor

    file = folder / (CARD if content else CONFIG)
    with tempfile.TemporaryDirectory(prefix="image-categorizer-") as scratch:
        copy = Path(scratch)
        if content:
            (copy / CARD).write_text(json.dumps(content))
        if config:
            (copy / CONFIG).write_text(json.dumps(config))
        with reading(file, copy):
            processor: Processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                copy, trust_remote_code=False, local_files_only=True, backend="pil"
            )
    return processor


@contextmanager
def reading(file: Path, copy: Path) -> Iterator[None]:
    """Turns any error of transformers into one sentence; what our own code raises stays.

    Args:
        file: what the user gave, for the sentence.
        copy: the folder that transformers reads; the sentence names the user's instead.

    Raises:
        OperatorError: transformers fails.
    """
    try:
        yield
    except Exception as error:
        # What the folder holds decides what transformers raises.
        if is_own(error):
            raise
        why = reason_of(error, file, copy).rstrip(".")
        raise OperatorError(f"transformers cannot read {file}: {why}.") from None


def reason_of(error: Exception, file: Path, copy: Path) -> str:
    """Returns what an error says, in one line that names no file of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    plain = text.replace(str(copy), "").lower()
    if "timm" in plain and "import" in plain + type(error).__name__.lower():
        return f"it is a network of timm, which cannot be imported: {TIMM_EXTRA}"
    if "for this kind of AutoModel" in text:
        return "transformers has no image classifier or detector of this model_type"
    folder = file if file.is_dir() else file.parent
    text = text.replace(str(copy), str(folder)) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def _card(
    folder: Path,
    processor: Processor,
    config: Mapping[str, object],
    content: Mapping[str, object],
) -> Card:
    kind = type(processor).__name__
    try:
        spec, note, sizes_px = _spec(processor, config)
        for width_px, height_px in sizes_px:
            _verify(processor, spec, picture(width_px, height_px))
    except Exception as error:
        # What the file says decides what transformers raises.
        if is_own(error) and not isinstance(error, NotSupported):
            raise
        file = folder / (CARD if content else CONFIG)
        why = reason_of(error, file, folder).rstrip(".")
        raise OperatorError(
            f"{file}: the image processor {kind} is not supported: {why}."
        ) from None
    return Card(spec, processor, content, note, sizes_px)


def _spec(
    processor: Processor, config: Mapping[str, object]
) -> tuple[InputSpec, str, Sequence[tuple[int, int]]]:
    """Returns the specification, a note, and the sizes of pictures to verify it on."""
    channels = config.get("num_channels", 3)
    if hasattr(processor, "data_config"):
        return _timm_spec(processor.data_config), "", SAMPLE_SIZES_PX
    if channels not in (1, 3):
        raise NotSupported(f"the network takes pictures with {channels} channels, not 3 or 1")
    is_flipped = bool(getattr(processor, "do_flip_channel_order", False))
    size, crop = (_sides(processor, name) for name in ("size", "crop_size"))
    crops = bool(getattr(processor, "do_center_crop", False))
    shortest, resize_px = size.get("shortest_edge"), 0
    if is_detector(config) and not {"height", "width"} <= size.keys():
        raise NotSupported(
            "it keeps the aspect ratio, so that inputs differ in size, but micro-batches need one: "
            "--size 800, for instance, stretches whole pictures to 800 x 800 instead"
        )
    note = ""
    sizes_px: Sequence[tuple[int, int]] = SAMPLE_SIZES_PX
    if not processor.do_resize:
        width, height = _fixed_size(config, size, is_cropped=crops)
        shortest, sizes_px = None, ((width, height),)
        note = f"{CARD} does not resize: images are resized to {width} x {height}."
    elif shortest and hasattr(processor, "crop_pct"):
        width = height = shortest
        whole_px = math.floor(shortest / _number(processor, "crop_pct"))
        shortest = whole_px if shortest < CONVNEXT_WARP_PX else None
    elif shortest and crops:
        width, height = _width_and_height(crop, "crop_size")
    elif shortest:
        width = height = shortest
        sizes_px = tuple((side, side) for side in (300, 331, 67))
        note = f"{CARD} does not crop: the centre {width} x {height} is seen."
    elif not crops:
        width, height = _width_and_height(size, "size")
    elif size.get("width") == size.get("height"):
        resize_px, _ = _width_and_height(size, "size")
        width, height = _width_and_height(crop, "crop_size")
    else:
        raise NotSupported(f"size {size}, crop {crop}")
    scale, bias = _scale_and_bias(processor)
    spec = InputSpec(
        width_px=width,
        height_px=height,
        resize="shortest_edge" if shortest else "exact",
        resize_px=shortest or resize_px,
        resample=_resample(processor),
        colour="grey" if channels == 1 else "bgr" if is_flipped else "rgb",
        scale=scale,
        bias=bias,
    )
    return spec, note, sizes_px


def _fixed_size(
    config: Mapping[str, object], size: Mapping[str, int], *, is_cropped: bool
) -> tuple[int, int]:
    """Returns width and height of the pictures that a processor expects to have already."""
    if is_cropped:
        raise NotSupported("it crops without resizing")
    side = config.get("image_size")
    if isinstance(side, int):
        return side, side
    if isinstance(side, Sequence) and len(side) == 2:
        height, width = side
        if isinstance(height, int) and isinstance(width, int):
            return width, height
    if "width" in size:
        return _width_and_height(size, "size")
    raise NotSupported("it does not resize, and there is no size")


def _sides(processor: Processor, name: str) -> dict[str, int]:
    """Returns the numbers of pixels in an attribute of a processor; empty without it."""
    given = getattr(processor, name, None) or {}
    try:
        found = {str(key): value for key, value in dict(given).items() if value}
    except (TypeError, ValueError):
        raise NotSupported(f"{name} is {given!r:.60}") from None
    if not all(isinstance(value, int) for value in found.values()):
        raise NotSupported(f"{name} is {given!r:.60}")
    return found


def _width_and_height(sides: Mapping[str, int], name: str) -> tuple[int, int]:
    if not {"width", "height"} <= sides.keys():
        raise NotSupported(f"{name} is {sides or 'missing'}")
    return sides["width"], sides["height"]


def _number(processor: Processor, name: str) -> float:
    """Returns a positive number in an attribute of a processor."""
    given = getattr(processor, name)
    if not isinstance(given, int | float) or not 0 < given < math.inf:
        raise NotSupported(f"{name} is {given!r:.60}")
    return float(given)


def _resample(processor: Processor) -> Resample:
    given: object = processor.resample
    if not isinstance(given, int) or given not in RESAMPLE:
        raise NotSupported(f"resample is {given!r:.60}, not one of {known()}")
    return RESAMPLE[given]


def _three(processor: Processor, name: str) -> NDArray[np.float64]:
    """Returns one number or three in an attribute of a processor, as float64 (3)."""
    given = getattr(processor, name)
    try:
        return np.broadcast_to(np.asarray(given, float), 3)
    except (TypeError, ValueError):
        raise NotSupported(f"{name} is {given!r:.60}, not one number or three") from None


class TimmData(BaseModel):
    """What decides the input of a network of timm."""

    input_size: tuple[int, int, int]
    """Channels, height, width."""
    crop_mode: str
    crop_pct: float = Field(gt=0)
    interpolation: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _timm_spec(content: Mapping[str, Any]) -> InputSpec:
    """Returns the specification of `timm.data.create_transform`, for evaluation."""
    data = TimmData.model_validate(dict(content))
    channels, height, width = data.input_size
    if channels != 3:
        raise NotSupported(f"the network takes pictures with {channels} channels, not 3")
    if data.crop_mode not in ("center", "squash") or width != height:
        raise NotSupported(f"crop_mode {data.crop_mode}, {width} x {height}")
    if not all(data.std):
        raise NotSupported("std must not be zero")
    std = np.asarray(data.std)
    return InputSpec(
        width_px=width,
        height_px=height,
        resize="exact" if data.crop_mode == "squash" else "shortest_edge",
        resize_px=math.floor(width / data.crop_pct),
        resample=data.interpolation,
        crop="even",
        scale=_triple(1 / 255 / std),
        bias=_triple(-np.asarray(data.mean) / std),
    )


def _scale_and_bias(
    processor: Processor,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    scale, bias = np.ones(3), np.zeros(3)
    if processor.do_rescale:
        scale *= _three(processor, "rescale_factor")
        bias -= 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    if processor.do_normalize:
        mean, std = _three(processor, "image_mean"), _three(processor, "image_std")
        with np.errstate(all="ignore"):  # checked below
            scale, bias = scale / std, (bias - mean) / std
            if getattr(processor, "include_top", False):  # EfficientNet divides once more
                scale, bias = scale / std, bias / std
    if not (np.isfinite(scale).all() and np.isfinite(bias).all() and scale.all()):
        raise NotSupported("image_mean, image_std and rescale_factor must be finite, and not zero")
    return _triple(scale), _triple(bias)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _verify(processor: Processor, spec: InputSpec, shown: NDArray[np.uint8]) -> None:
    """Passes a specification that makes the inputs that the processor makes.

    Raises:
        NotSupported: the inputs for this picture differ.
    """
    theirs = prepared(processor, spec, shown)
    if theirs.ndim != 3 or len(theirs) not in (1, 3):
        raise NotSupported(f"its inputs have the shape {theirs.shape}")
    theirs = theirs.transpose(1, 2, 0)
    if spec.colour == "bgr":
        theirs = theirs[..., ::-1]
    ours = reduce(Pixels.of(shown), spec).astype(float)
    if theirs.shape[:2] != ours.shape[:2]:
        raise NotSupported(f"its inputs have the shape {theirs.shape}, not {ours.shape}")
    steps = np.abs((theirs - np.asarray(spec.bias)) / np.asarray(spec.scale) - ours).max()
    if not steps <= MAX_STEPS:  # also where it is not a number
        raise NotSupported(f"its inputs differ from ours by up to {steps:.3g} of 255 steps")


def prepared(
    processor: Processor, spec: InputSpec, shown: NDArray[np.uint8]
) -> NDArray[np.floating]:
    """Returns what the original image processor makes of a picture, float (C, H, W).

    Args:
        processor: the original.
        spec: says whether the network sees grey; then the processor gets a grey picture.
        shown: uint8 (H, W, 3).
    """
    given = Image.fromarray(shown, "RGB")
    if spec.colour == "grey":
        given = given.convert("L")
    kind = "pt" if hasattr(processor, "data_config") else "np"
    values = processor(given, return_tensors=kind)["pixel_values"][0]
    return np.asarray(values, np.float32)


def picture(width_px: int, height_px: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Returns uint8 (H, W, 3) with smooth parts and edges: waves of several lengths."""
    y, x = np.mgrid[:height_px, :width_px]
    waves: Sequence[np.ndarray] = [
        np.sin(x / 7 + y / 31),
        np.sin(x / 3 - y / 11),
        np.sign(np.sin(x / 23) * np.sin(y / 17)),
    ]
    return (127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)
