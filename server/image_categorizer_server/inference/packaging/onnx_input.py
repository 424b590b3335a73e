"""The input of an ONNX graph: how pictures become tensors, by card, options or default."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.packaging.folder import LFS_MARK, refuse_pointer
from image_categorizer_server.inference.packaging.huggingface import CARD, read_input_spec
from image_categorizer_server.inference.packaging.onnx_file import (
    companion,
)

if TYPE_CHECKING:
    # Imports onnx, which the command line does not need for its options.
    from image_categorizer_server.inference.packaging.onnx_graph import PictureInput

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Networks for ImageNet see the centre of a picture: 224 of 256 pixels.
CROP_SHARE = 224 / 256


MAX_SIDE_PX = 4096
# ONNX's own metadata for pictures.
RANGES = {
    "NominalRange_0_255": (0, 255),
    "Normalized_0_1": (0, 1),
    "Normalized_1_1": (-1, 1),
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The options of a user who adds an ONNX file; None means not given."""

    size_px: int | None = None
    resize: Literal["shortest_edge", "exact", "letterbox"] | None = None
    mean: tuple[float, float, float] | None = None
    """Per channel, for values from 0 to 1."""
    std: tuple[float, float, float] | None = None
    activation: Activation | Literal["none"] | None = None
    """`none`: the graph answers confidences."""
    boxes: Literal["cxcywh", "xyxy"] | None = None
    """Of a detector: centre and size, or two corners."""


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a graph says about its input."""

    source: "PictureInput"
    largest: float | None = None
    """See `onnx_graph.own_range`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_detector: bool = False

    @property
    def is_ultralytics(self) -> bool:
        """Whether Ultralytics exported it, whose networks take numbers from 0 to 1."""
        return self.metadata.get("author", "") == "Ultralytics"


def describe_input(
    file: Path, facts: GraphFacts, given: Preprocessing
) -> tuple[InputSpec, str, Path | None]:
    """Returns the input specification, a sentence that describes it, and the card if there is one.

    Args:
        file: the ONNX file; a preprocessor card may be beside it.
        facts: about the input of the graph.
        given: the user's options; they exclude a card.

    Raises:
        OperatorError: the preprocessing is unknown, or does not fit the graph.
    """
    source, card = facts.source, companion(file, CARD)
    task = "detect" if facts.is_detector else "classify"
    if facts.metadata.get("task", task) != task and facts.is_ultralytics:
        raise OperatorError(
            f"{file} is a network to {facts.metadata['task']}, not a classifier or a detector of "
            "boxes: export one that was trained with task=classify or task=detect."
        )
    if card is not None:
        stretched_px = given.size_px if facts.is_detector else None
        if given != Preprocessing(stretched_px, activation=given.activation, boxes=given.boxes):
            raise OperatorError(
                f"{card} describes the input; remove the file, or omit "
                "--size, --resize, --mean and --std."
            )
        spec, summary = _from_card(card, stretched_px), f"Preprocessing follows {CARD}."
        if source.takes_bytes:
            spec = spec.model_copy(update={"scale": BYTES.scale, "bias": BYTES.bias})
    else:
        spec, summary = _default_spec(file, facts, given)
    if facts.is_detector and (spec.resize == "shortest_edge" or spec.resize_px):
        raise OperatorError(
            f"A detector sees whole pictures, but the preprocessing crops them: choose --resize "
            f"exact or letterbox{f', and remove {card}' if card else ''}."
        )
    for side, wanted, made in (
        ("high", source.height_px, spec.height_px),
        ("wide", source.width_px, spec.width_px),
    ):
        if wanted not in (None, made):
            raise OperatorError(
                f"The graph takes pictures {wanted} pixels {side}, "
                f"but the preprocessing makes them {made}."
            )
    if source.channels == 1 and len({*spec.scale}) + len({*spec.bias}) > 2:
        raise OperatorError(
            "The graph takes grey pictures: give --mean and --std with the same number three times."
        )
    return spec, summary, card


def _from_card(card: Path, stretched_px: int | None) -> InputSpec:
    try:
        with card.open("rb") as content:
            refuse_pointer(card, content.read(len(LFS_MARK)))
        return read_input_spec(card.parent, stretched_px)
    except OperatorError as error:
        said = str(error)
        raise OperatorError(said if str(card) in said else f"{card}: {said}") from None
    except OSError as error:
        raise OperatorError(f"{card} cannot be used: {error.strerror or error}.") from None


def _default_spec(file: Path, facts: GraphFacts, given: Preprocessing) -> tuple[InputSpec, str]:
    source = facts.source
    height, width = given.size_px or source.height_px, given.size_px or source.width_px
    if height is None or width is None:
        raise OperatorError(
            "The graph takes pictures of any size: choose one with --size, or put "
            f"{CARD} into {file.parent}."
        )
    if max(height, width) > MAX_SIDE_PX:
        raise OperatorError(
            f"The graph takes pictures of {width} x {height} pixels; {MAX_SIDE_PX} a side are the "
            "most that are served."
        )
    resize = given.resize or _usual_resize(facts, is_square=height == width)
    is_shortest = resize == "shortest_edge"
    share = 1.0 if facts.is_ultralytics else CROP_SHARE
    resized = math.floor(min(height, width) / share + 0.5)
    resized = max(resized, height, width)
    scaling = _scaling(facts, given)
    spec = InputSpec(
        width_px=width,
        height_px=height,
        resize=resize,
        resize_px=resized if is_shortest else 0,
        resample="bilinear",
        scale=scaling.scale,
        bias=scaling.bias,
    )
    size = f"{width} x {height}"
    how = {
        "shortest_edge": f"shortest edge to {resized}, centre {size}",
        "exact": f"stretched to {size}",
        "letterbox": f"fitted into {size} with a grey border",
    }[resize]
    return spec, f"No {CARD}, so: {how}, bilinear; {scaling.summary}."


def _usual_resize(
    facts: GraphFacts, *, is_square: bool
) -> Literal["shortest_edge", "exact", "letterbox"]:
    if facts.is_detector:
        return "letterbox" if facts.is_ultralytics else "exact"
    return "shortest_edge" if is_square else "exact"


@dataclass(frozen=True, slots=True)
class _Scaling:
    scale: tuple[float, float, float]
    bias: tuple[float, float, float]
    summary: str


BYTES = _Scaling((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "bytes without scaling")


def _scaling(facts: GraphFacts, given: Preprocessing) -> _Scaling:
    if facts.source.takes_bytes:
        if given.mean or given.std:
            raise OperatorError("The graph takes bytes and scales them: omit --mean and --std.")
        return BYTES
    if given.mean or given.std:
        return _normalized(given.mean or IMAGENET_MEAN, given.std or IMAGENET_STD)
    if (stated := _stated(facts)) is not None:
        return stated
    if facts.source.channels == 1:
        raise OperatorError(
            "The graph takes grey pictures, for which no preprocessing is usual: give --mean and "
            "--std, the same number three times, such as --mean 0 0 0 --std 1 1 1 for 0 to 1."
        )
    if facts.is_detector:
        raise OperatorError(
            "Nothing says how the graph takes pictures, and detectors differ: give --mean and "
            "--std, such as --mean 0 0 0 --std 1 1 1 for numbers from 0 to 1."
        )
    return _normalized(IMAGENET_MEAN, IMAGENET_STD)


def _stated(facts: GraphFacts) -> _Scaling | None:
    """Returns the scaling that the graph or its metadata asks for; None if neither does."""
    stated = facts.metadata.get("Image.NominalPixelRange", "")
    if stated in RANGES:
        low, high = RANGES[stated]
        why = f"numbers from {low} to {high}, as the metadata of the graph says"
    elif facts.is_ultralytics:
        low, high, why = 0, 1, "numbers from 0 to 1, as Ultralytics has it"
    elif facts.largest is not None:
        low, high = 0, round(facts.largest)
        why = f"numbers from 0 to {high}, because the graph scales them itself"
    else:
        return None
    scale = (high - low) / 255
    return _Scaling((scale, scale, scale), (float(low), float(low), float(low)), why)


def _normalized(mean: tuple[float, float, float], std: tuple[float, float, float]) -> _Scaling:
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise OperatorError("--std must be greater than 0.")
    (m_r, m_g, m_b), (s_r, s_g, s_b) = mean, std
    return _Scaling(
        (1 / 255 / s_r, 1 / 255 / s_g, 1 / 255 / s_b),
        (-m_r / s_r, -m_g / s_g, -m_b / s_b),
        f"mean {' '.join(map(str, mean))}, std {' '.join(map(str, std))}",
    )
