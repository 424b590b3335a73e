"""Makes a model version from a Hugging Face folder, and verifies our preprocessing.

Only the command line uses it: torch and transformers take seconds to import.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels, Resample
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce
from image_categorizer_server.inference.models.manifest import (
    MANIFEST_FILE,
    NAME,
    Manifest,
    describe_file,
    digest_of,
)
from image_categorizer_server.inference.models.taxonomy import with_taxonomy

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "preprocessor_config.json"
PICKLES = ("pytorch_model.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "tf_model.h5")
RESAMPLE: dict[int, Resample] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
# ConvNeXt's processor crops below this size, and only resizes from this size on.
CONVNEXT_WARP_PX = 384
SAMPLE_SIZES_PX = ((300, 200), (200, 300), (331, 331))
# In steps of 8 bits: the bytes are equal, floats may round differently.
MAX_STEPS = 0.5


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

    def __call__(
        self, images: NDArray[np.uint8], *, return_tensors: str
    ) -> Mapping[str, Sequence[ArrayLike]]:
        """Returns `pixel_values` (N, C, H, W)."""
        ...


def check_name(name: str) -> None:
    """Passes a valid model name.

    Raises:
        OperatorError: the name is not valid.
    """
    if not NAME.fullmatch(name):
        raise OperatorError(
            f"'{name}' is not a valid model name: use up to 64 characters of a to z, 0 to 9, '.', "
            "'_' and '-', and start with a letter or digit."
        )


def check_files(source: Path) -> None:
    """Passes a folder that has all files of a model.

    Raises:
        OperatorError: a file is missing, or the weights are a pickle, which could run code.
    """
    if not source.is_dir():
        raise OperatorError(f"{source} is not a folder.")
    missing = [name for name in (CONFIG, WEIGHTS, CARD) if not (source / name).is_file()]
    pickles = [found.name for pattern in PICKLES for found in source.glob(pattern)]
    if WEIGHTS in missing and pickles:
        raise OperatorError(
            f"The weights in {source} are a pickle ({pickles[0]}), which could run code; "
            f"save them as {WEIGHTS} with model.save_pretrained and add the folder again."
        )
    if missing:
        raise OperatorError(
            f"{source} is not a Hugging Face image classifier: {', '.join(missing)} missing."
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """The name of a new version, and what the user states about it."""

    name: str
    version: int
    licence: str = ""
    origin: str = ""
    taxonomy: Path | None = None


def copy_model(source: Path, target: Path, labels: Labels) -> Manifest:
    """Copies the model's files into `target` and writes the manifest there.

    Raises:
        OperatorError: a file is missing, transformers cannot read the folder, or the preprocessing
            is unknown.
    """
    check_files(source)
    licence, origin = licence_and_origin(source)
    for file in (CONFIG, WEIGHTS, CARD):
        shutil.copyfile(source / file, target / file)
    config = _read_config(target)
    spec = read_input_spec(target)
    files = {file: describe_file(target / file) for file in (CONFIG, WEIGHTS, CARD)}
    sigmoid = getattr(config, "problem_type", None) == "multi_label_classification"
    manifest = Manifest(
        name=labels.name,
        version=labels.version,
        digest=digest_of(files),
        files=files,
        categories=with_taxonomy(_category_names(config), labels.taxonomy),
        input=spec,
        activation="sigmoid" if sigmoid else "softmax",
        licence=labels.licence or licence,
        origin=labels.origin or origin,
    )
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def read_input_spec(folder: Path) -> InputSpec:
    """Returns the specification in the folder's `preprocessor_config.json`.

    Raises:
        OperatorError: transformers cannot read the file, or the preprocessing is unknown.
    """
    return input_spec(_read_processor(folder))


def _read_config(folder: Path) -> "PreTrainedConfig":
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise OperatorError(
            f"transformers cannot read {CONFIG}: {str(error).splitlines()[0]}"
        ) from None
    return config


def _read_processor(folder: Path) -> Processor:
    from transformers import AutoImageProcessor

    try:
        processor: Processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False, local_files_only=True, backend="pil"
        )
    except (OSError, ValueError, KeyError) as error:
        raise OperatorError(
            f"transformers cannot read {CARD}: {str(error).splitlines()[0]}"
        ) from None
    return processor


def _category_names(config: "PreTrainedConfig") -> list[str]:
    by_index = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    if sorted(by_index) != list(range(len(by_index))):
        raise OperatorError(f"{CONFIG}: the indices in id2label must count from 0 without gaps.")
    return [by_index[index] for index in range(len(by_index))]


def input_spec(processor: Processor) -> InputSpec:
    """Returns the specification of what a processor does, verified on pictures.

    Raises:
        OperatorError: the processor does something that a specification cannot express.
    """
    kind = type(processor).__name__
    try:
        spec = _spec(processor)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OperatorError(f"The image processor {kind} is not supported: {error}.") from None
    for width_px, height_px in SAMPLE_SIZES_PX:
        steps = _difference(processor, spec, width_px, height_px)
        if steps > MAX_STEPS:
            raise OperatorError(
                f"The image processor {kind} is not supported: "
                f"its inputs differ from ours by up to {steps:.3g} of 255 steps."
            )
    return spec


def _spec(processor: Processor) -> InputSpec:
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    size = {key: value for key, value in size.items() if value}
    crops = bool(getattr(processor, "do_center_crop", False))
    shortest = size.get("shortest_edge")
    if not processor.do_resize:
        raise ValueError("it does not resize")
    if shortest and hasattr(processor, "crop_pct"):
        width = height = shortest
        shortest = int(shortest / processor.crop_pct) if shortest < CONVNEXT_WARP_PX else None
    elif crops and shortest:
        width, height = crop["width"], crop["height"]
    elif "width" in size and not crops:
        width, height = size["width"], size["height"]
    else:
        raise ValueError(f"size {size}, crop {crop if crops else 'none'}")
    scale, bias = _scale_and_bias(processor)
    return InputSpec(
        width_px=width,
        height_px=height,
        resize="shortest_edge" if shortest else "exact",
        resize_px=shortest or 0,
        resample=RESAMPLE[int(processor.resample)],
        scale=scale,
        bias=bias,
    )


def _scale_and_bias(
    processor: Processor,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    scale, bias = np.ones(3), np.zeros(3)
    if processor.do_rescale:
        scale *= processor.rescale_factor
        bias -= 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    if processor.do_normalize:
        std = np.broadcast_to(np.asarray(processor.image_std, float), 3)
        scale, bias = scale / std, (bias - np.asarray(processor.image_mean, float)) / std
        if getattr(processor, "include_top", False):  # EfficientNet divides once more
            scale, bias = scale / std, bias / std
    return _triple(scale), _triple(bias)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _difference(processor: Processor, spec: InputSpec, width_px: int, height_px: int) -> float:
    """Returns the largest difference from the processor's own input, in steps of 8 bits."""
    picture = _picture(width_px, height_px)
    theirs = np.asarray(
        processor(picture, return_tensors="np")["pixel_values"][0], float
    ).transpose(1, 2, 0)
    ours = reduce(Pixels.of(picture), spec).astype(float)
    if theirs.shape != ours.shape:
        return float("inf")
    steps = np.abs((theirs - np.asarray(spec.bias)) / np.asarray(spec.scale) - ours)
    return float(steps.max())


def _picture(width_px: int, height_px: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Returns uint8 (H, W, 3) with smooth parts and edges: waves of several lengths."""
    y, x = np.mgrid[:height_px, :width_px]
    waves: Sequence[np.ndarray] = [
        np.sin(x / 7 + y / 31),
        np.sin(x / 3 - y / 11),
        np.sign(np.sin(x / 23) * np.sin(y / 17)),
    ]
    return (127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def licence_and_origin(source: Path) -> tuple[str, str]:
    """Returns the licence and the origin that a folder states; empty if it states none."""
    card = source / "README.md"
    licence = ""
    if card.is_file():
        head = card.read_text(errors="replace").split("\n---", 1)[0]
        licence = next(
            (
                line.split(":", 1)[1].strip()
                for line in head.splitlines()
                if line.startswith("license:")
            ),
            "",
        )
    named = json.loads((source / CONFIG).read_text()).get("_name_or_path", "")
    return licence, str(named)
