"""Detectors of transformers: what makes scores of their logits, and whether boxes are right.

transformers has no name for either: its image processors know, in `post_process_object_detection`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.detect import CORNERS, Detection
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce, seen_part
from image_categorizer_server.inference.models.export import MAX_DIFFERENCE
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.packaging.folder import CONFIG
from image_categorizer_server.inference.packaging.processor import Card, prepared
from image_categorizer_server.inference.packaging.selftest_outcome import Row, Shown
from image_categorizer_server.inference.runtimes import Runtime

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

METHOD = "post_process_object_detection"


class Found(NamedTuple):
    """Boxes of one picture."""

    scores: NDArray[np.float64]
    """(N,)."""
    labels: NDArray[np.intp]
    """(N,), positions of categories."""
    boxes: NDArray[np.float64]
    """(N, 4): left, top, right, bottom as shares of the picture."""


class _PostProcessor(Protocol):
    def post_process_object_detection(
        self, outputs: object, threshold: float, target_sizes: list[tuple[int, int]]
    ) -> "list[dict[str, torch.Tensor]]":
        """Returns `scores`, `labels` and `boxes` in pixels, for each picture."""
        ...


def detection_of(network: "PreTrainedModel", card: Card, labels: int, source: Path) -> Detection:
    """Returns what a detector answers; the self-test shows whether it is so.

    Args:
        network: of transformers.
        card: how it gets pictures.
        labels: how many categories it has.
        source: the user's folder, for messages.

    Raises:
        OperatorError: it answers no boxes, or transformers has no meaning for them.
    """
    if not hasattr(card.processor, METHOD):
        raise OperatorError(
            f"{source} is a detector, but its image processor {type(card.processor).__name__} does "
            f"not say what its boxes mean (it has no {METHOD}): export the network to ONNX, and "
            "add that with --boxes."
        )
    blank = np.full((card.spec.height_px, card.spec.width_px, 3), 128, np.uint8)
    output = _asked(network, card, blank)
    shapes = [getattr(output, name).shape[1:] for name in ("logits", "pred_boxes")]
    (queries, width), boxes = shapes
    if tuple(boxes) != (queries, CORNERS) or width not in (labels, labels + 1):
        raise OperatorError(
            f"{source / CONFIG} has {labels} labels, but the network answers {tuple(shapes[0])} "
            f"numbers and {tuple(boxes)} for boxes: {labels} or {labels + 1} scores (with one for "
            "no object) and 4 edges are needed for each query."
        )
    return Detection(scores="sigmoid" if width == labels else "softmax")


class _Output(Protocol):
    logits: "torch.Tensor"
    pred_boxes: "torch.Tensor"


def _asked(network: "PreTrainedModel", card: Card, array: NDArray[np.uint8]) -> _Output:
    import torch

    values = torch.from_numpy(prepared(card.processor, card.spec, array)[None])
    with torch.inference_mode():
        return cast("_Output", network(pixel_values=values))


def detector_row(
    shown: Shown, network: "PreTrainedModel", card: Card, manifest: Manifest, runtime: Runtime
) -> Row:
    """Returns how boxes and scores for a picture differ from those of transformers.

    Args:
        shown: the picture.
        network: the original.
        card: with the original image processor.
        manifest: of the new version.
        runtime: what will serve it.
    """
    height, width = shown.array.shape[:2]
    processor = cast("_PostProcessor", card.processor)
    output = _asked(network, card, shown.array)
    (answer,) = processor.post_process_object_detection(output, 0.0, [(height, width)])
    theirs = Found(
        answer["scores"].double().numpy(),
        answer["labels"].numpy(),
        answer["boxes"].double().numpy() / (width, height, width, height),
    )
    served = runtime.predict([reduce(Pixels.of(shown.array), manifest.input)], with_features=True)
    assert served.features is not None
    ours = served.features[0].astype(np.float64)
    corners = on_picture(ours[:, :CORNERS], (width, height), manifest.input)
    apart = difference(theirs, corners, ours[:, CORNERS:])
    names = [entry.name for entry in manifest.categories]
    first, own = int(theirs.scores.argmax()), int(served.confidences[0].argmax())
    return Row(
        shown.name,
        (names[theirs.labels[first]], float(theirs.scores[first])),
        (names[own], float(served.confidences[0, own])),
        max(apart, abs(float(theirs.scores[first] - served.confidences[0, own]))),
    )


def on_picture(
    corners: NDArray[np.float64], size_px: tuple[int, int], spec: InputSpec
) -> NDArray[np.float64]:
    """Returns edges (N, 4), shares of the network's input, as shares of the picture."""
    left, top, right, bottom = seen_part(size_px, spec)
    scale = np.array([right - left, bottom - top] * 2)
    moved: NDArray[np.float64] = corners * scale + np.array([left, top] * 2)
    return moved


def difference(theirs: Found, corners: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Returns how far the farthest of their boxes is from any of ours, and ours from theirs.

    A box of theirs is near one of ours if its score and its edges are.  Of ours, the strongest of
    each category counts, unless theirs are all stronger, or theirs has it for another category.

    Args:
        theirs: what the original finds, some or all of its queries.
        corners: ours, (Q, 4), shares of the picture.
        scores: ours, (Q, C).
    """
    most = 0.0
    for score, label, box in zip(*theirs, strict=True):
        edges = np.abs(corners - box).max(-1)
        most = max(most, float(np.maximum(np.abs(scores[:, label] - score), edges).min()))
    weakest = theirs.scores.min() + MAX_DIFFERENCE
    for query in {*scores.argmax(0).tolist()}:
        label = int(scores[query].argmax())
        if scores[query, label] > weakest:
            is_same = theirs.labels == label
            edges = np.abs(theirs.boxes - corners[query]).max(-1)
            apart = np.maximum(np.abs(theirs.scores - scores[query, label]), edges)
            most = max(most, float(apart[is_same].min(initial=1.0)))
    return most
