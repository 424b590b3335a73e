"""What is said of an ONNX file: its labels and how pictures become its input."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.models.export import ONNX_FILE
from image_categorizer_server.inference.packaging.huggingface import (
    CARD,
    CONFIG,
    WEIGHTS,
    read_input_spec,
)

if TYPE_CHECKING:
    from image_categorizer_server.inference.packaging.onnx_graph import PictureInput

LABEL_FILES = ("labels.txt", "labels.json", CONFIG)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Networks of ImageNet are shown the middle of a picture: 224 of 256.
CROP_SHARE = 224 / 256
NAMES: TypeAdapter[list[str] | dict[int, str]] = TypeAdapter(list[str] | dict[int, str])


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the person who adds an ONNX file says of its input; None: as the files say."""

    size_px: int | None = None
    resize: Literal["shortest_edge", "exact"] | None = None
    mean: tuple[float, float, float] | None = None
    """A channel each, of values from 0 to 1."""
    std: tuple[float, float, float] | None = None
    activation: Activation | None = None


def onnx_file(source: Path) -> Path | None:
    """Returns the ONNX file that a path means; None where it means a Hugging Face folder."""
    if source.suffix == ".onnx" and source.is_file():
        return source
    file = source / ONNX_FILE
    return file if file.is_file() and not (source / WEIGHTS).exists() else None


def read_labels(folder: Path) -> list[str]:
    """Returns the categories beside an ONNX file, in the order of its outputs.

    Raises:
        OperatorError: there are none, or they are malformed.
    """
    file = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    if file is None:
        raise OperatorError(
            f"{folder} holds no labels: write labels.txt, a category a line in the order of the "
            "network's outputs, or labels.json, a list of them."
        )
    try:
        text = file.read_text()
        if file.suffix == ".txt":
            names = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            names = _names(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = "is no list of names" if isinstance(error, ValidationError | KeyError) else error
        raise OperatorError(f"{file}: {told}.") from None
    if not names or not all(names):
        raise OperatorError(f"{file}: a category has no name.")
    return names


def _names(value: object) -> list[str]:
    read = NAMES.validate_python(
        value["id2label"] if isinstance(value, dict) and "id2label" in value else value
    )
    return read if isinstance(read, list) else [read[index] for index in range(len(read))]


def describe_input(
    folder: Path, source: "PictureInput", said: Preprocessing
) -> tuple[InputSpec, str]:
    """Returns how pictures become the graph's input, and a sentence that tells it.

    Raises:
        OperatorError: it is not known, or does not fit the graph.
    """
    if (folder / CARD).is_file():
        if said != Preprocessing(activation=said.activation):
            raise OperatorError(
                f"{folder / CARD} says what the input is; take it away, or leave out "
                "--size, --resize, --mean and --std."
            )
        spec, told = read_input_spec(folder), f"Pictures are prepared as {CARD} says."
        if source.takes_bytes:
            spec = spec.model_copy(update={"scale": AS_IS.scale, "bias": AS_IS.bias})
    else:
        spec, told = _default_spec(folder, source, said)
    for side, wanted, given in (
        ("high", source.height_px, spec.height_px),
        ("wide", source.width_px, spec.width_px),
    ):
        if wanted not in (None, given):
            raise OperatorError(
                f"The graph takes pictures {wanted} pixels {side}, its preprocessing makes {given}."
            )
    return spec, told


def _default_spec(
    folder: Path, source: "PictureInput", said: Preprocessing
) -> tuple[InputSpec, str]:
    height, width = said.size_px or source.height_px, said.size_px or source.width_px
    if height is None or width is None:
        raise OperatorError(
            f"The graph takes pictures of any size: say which with --size, or put {CARD} into "
            f"{folder}."
        )
    shortest = (said.resize or ("shortest_edge" if height == width else "exact")) != "exact"
    resized = math.floor(min(height, width) / CROP_SHARE + 0.5)
    scaling = _scaling(source, said)
    spec = InputSpec(
        width_px=width,
        height_px=height,
        resize="shortest_edge" if shortest else "exact",
        resize_px=resized if shortest else 0,
        resample="bilinear",
        scale=scaling.scale,
        bias=scaling.bias,
    )
    way = f"shortest edge to {resized}, then the middle" if shortest else "squeezed to"
    values = f"No {CARD}: {way} {width} x {height}, bilinear; {scaling.told}."
    return spec, values


@dataclass(frozen=True, slots=True)
class _Scaling:
    scale: tuple[float, float, float]
    bias: tuple[float, float, float]
    told: str


AS_IS = _Scaling((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "bytes as they are")


def _scaling(source: "PictureInput", said: Preprocessing) -> _Scaling:
    if source.takes_bytes:
        if said.mean or said.std:
            raise OperatorError("The graph takes bytes as they are: leave out --mean and --std.")
        return AS_IS
    mean, std = said.mean or IMAGENET_MEAN, said.std or IMAGENET_STD
    if min(std) <= 0:
        raise OperatorError("--std must be greater than 0.")
    (m_r, m_g, m_b), (s_r, s_g, s_b) = mean, std
    return _Scaling(
        (1 / 255 / s_r, 1 / 255 / s_g, 1 / 255 / s_b),
        (-m_r / s_r, -m_g / s_g, -m_b / s_b),
        f"mean {' '.join(map(str, mean))}, std {' '.join(map(str, std))}",
    )
