"""The input of an ONNX graph: how pictures become tensors, by card, options or default."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.packaging.huggingface import CARD, read_input_spec

if TYPE_CHECKING:
    # Imports onnx, which the command line does not need for its options.
    from image_categorizer_server.inference.packaging.onnx_graph import PictureInput

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Networks for ImageNet see the centre of a picture: 224 of 256 pixels.
CROP_SHARE = 224 / 256


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The options of a user who adds an ONNX file; None means not given."""

    size_px: int | None = None
    resize: Literal["shortest_edge", "exact"] | None = None
    mean: tuple[float, float, float] | None = None
    """Per channel, for values from 0 to 1."""
    std: tuple[float, float, float] | None = None
    activation: Activation | None = None


def describe_input(
    folder: Path, source: "PictureInput", given: Preprocessing
) -> tuple[InputSpec, str]:
    """Returns the input specification, and a sentence that describes it.

    Args:
        folder: may hold a preprocessor card.
        source: the input of the graph.
        given: the user's options; they exclude a card.

    Raises:
        OperatorError: the preprocessing is unknown, or does not fit the graph.
    """
    if (folder / CARD).is_file():
        if given != Preprocessing(activation=given.activation):
            raise OperatorError(
                f"{folder / CARD} describes the input; remove the file, or omit "
                "--size, --resize, --mean and --std."
            )
        spec, summary = read_input_spec(folder), f"Preprocessing follows {CARD}."
        if source.takes_bytes:
            spec = spec.model_copy(update={"scale": BYTES.scale, "bias": BYTES.bias})
    else:
        spec, summary = _default_spec(folder, source, given)
    for side, wanted, made in (
        ("high", source.height_px, spec.height_px),
        ("wide", source.width_px, spec.width_px),
    ):
        if wanted not in (None, made):
            raise OperatorError(
                f"The graph takes pictures {wanted} pixels {side}, "
                f"but the preprocessing makes them {made}."
            )
    return spec, summary


def _default_spec(
    folder: Path, source: "PictureInput", given: Preprocessing
) -> tuple[InputSpec, str]:
    height, width = given.size_px or source.height_px, given.size_px or source.width_px
    if height is None or width is None:
        raise OperatorError(
            "The graph takes pictures of any size: choose one with --size, or put "
            f"{CARD} into {folder}."
        )
    is_shortest = (given.resize or ("shortest_edge" if height == width else "exact")) != "exact"
    resized = math.floor(min(height, width) / CROP_SHARE + 0.5)
    scaling = _scaling(source, given)
    spec = InputSpec(
        width_px=width,
        height_px=height,
        resize="shortest_edge" if is_shortest else "exact",
        resize_px=resized if is_shortest else 0,
        resample="bilinear",
        scale=scaling.scale,
        bias=scaling.bias,
    )
    size = f"{width} x {height}"
    how = f"shortest edge to {resized}, centre {size}" if is_shortest else f"stretched to {size}"
    return spec, f"No {CARD}, so: {how}, bilinear; {scaling.summary}."


@dataclass(frozen=True, slots=True)
class _Scaling:
    scale: tuple[float, float, float]
    bias: tuple[float, float, float]
    summary: str


BYTES = _Scaling((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "bytes without scaling")


def _scaling(source: "PictureInput", given: Preprocessing) -> _Scaling:
    if source.takes_bytes:
        if given.mean or given.std:
            raise OperatorError("The graph takes bytes and scales them: omit --mean and --std.")
        return BYTES
    mean, std = given.mean or IMAGENET_MEAN, given.std or IMAGENET_STD
    if min(std) <= 0:
        raise OperatorError("--std must be greater than 0.")
    (m_r, m_g, m_b), (s_r, s_g, s_b) = mean, std
    return _Scaling(
        (1 / 255 / s_r, 1 / 255 / s_g, 1 / 255 / s_b),
        (-m_r / s_r, -m_g / s_g, -m_b / s_b),
        f"mean {' '.join(map(str, mean))}, std {' '.join(map(str, std))}",
    )
