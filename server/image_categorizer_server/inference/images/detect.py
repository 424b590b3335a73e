"""Boxes of a detector, in pixels of the upright image.

    features (Q, 4 + C) ─▶ the queries that show a category ─▶ without doubles ─▶ boxes

A detector answers many queries, each with a box and a score for every category.  The confidence of
a category is its largest score, so confidences do not depend on one another.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from image_categorizer_server.domain.classification import Box, ClassifyOptions, Prediction
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.images.localize import Features, Located, in_pixels
from image_categorizer_server.inference.images.preprocess import Edges, Input, InputSpec, seen_part

CORNERS = 4
"""How many numbers of a query are its box."""
MIN_SCORE = 0.5
"""Of further boxes, where a request has no threshold, as transformers has it."""
MAX_BOXES = 100
"""Of one category, as in the evaluation of COCO."""
MAX_CANDIDATES = 1_000
"""Boxes of one category among which doubles are sought, the strongest, as torchvision has it: a
bound on the time."""
ONE = 1, 1
ARCHITECTURE = "ForObjectDetection"
"""How transformers ends the names of networks that answer boxes."""

Scores = Literal["softmax", "sigmoid", "none"]


class Detection(BaseModel):
    """What a detector answers; part of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: Scores
    """What makes scores of its logits, `none` if it answers scores.  Softmax has one number more
    than there are categories, the last, for no object."""
    max_overlap: float | None = Field(None, gt=0, le=1)
    """IoU above which the weaker of two boxes of a category is left out; None if the network
    answers each object once."""


def is_detector(config: Mapping[str, object]) -> bool:
    """Returns whether the content of a `config.json` describes a detector."""
    named = config.get("architectures")
    return isinstance(named, list) and any(str(name).endswith(ARCHITECTURE) for name in named)


class DetectionLocalizer:
    """Turns what a detector answers into boxes; thread-safe."""

    localization = Localization.DETECTION

    def __init__(self, detection: Detection, spec: InputSpec) -> None:
        """Configures the localizer.

        Args:
            detection: whether an object may have several boxes.
            spec: how images become inputs.
        """
        self._max_overlap = detection.max_overlap
        self._spec = spec

    def locate(
        self,
        features: Features,
        seen: Input,
        predictions: list[Prediction],
        indices: Mapping[str, int],
        options: ClassifyOptions,
    ) -> Located:
        """Returns the predictions with boxes, without a heat map; blocks.

        Args:
            features: the network's for this image: `own` is float32 (Q, 4 + C), see `boxes`.
            seen: the network's input.
            predictions: by descending confidence.
            indices: position of each category among the network's outputs.
            options: the threshold counts for each box.
        """
        size_px = seen.width_px, seen.height_px
        threshold = options.confidence_threshold or MIN_SCORE
        found = [
            self.boxes(features.own, indices[p.category.name], size_px, threshold)
            for p in predictions
        ]
        return Located(
            [
                replace(prediction, bounding_boxes=tuple(boxes))
                for prediction, boxes in zip(predictions, found, strict=True)
            ],
            b"",
        )

    def boxes(
        self,
        features: NDArray[np.float32],
        category: int,
        size_px: tuple[int, int],
        threshold: float,
    ) -> list[Box]:
        """Returns boxes inside the image for a category, the strongest first, at most `MAX_BOXES`.

        The strongest is there whatever its score; empty only if none is a box, see `is_box`.

        Args:
            features: float32 (Q, 4 + C): left, top, right, bottom as shares of the network's input,
                then the scores.
            category: its position among the network's outputs.
            size_px: width and height of the upright image.
            threshold: minimum score of further boxes.
        """
        corners, scores = features[:, :CORNERS], features[:, CORNERS + category]
        order = np.argsort(-scores, kind="stable")
        order = order[is_box(corners[order])]
        order = order[: max(1, np.count_nonzero(scores[order] >= threshold))]
        if self._max_overlap is not None:
            order = order[:MAX_CANDIDATES]
            order = order[distinct(corners[order], self._max_overlap)]
        edges = seen_part(size_px, self._spec)
        return [in_pixels(_shares(box), ONE, edges, size_px) for box in corners[order[:MAX_BOXES]]]


def is_box(corners: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns for each of N rows (N, 4) whether its numbers are finite, and its edges in order.

    Edges that cross mean that the model was added as one that answers corners, and answers others.
    """
    is_finite = np.isfinite(corners).all(-1)
    return np.asarray(is_finite & (corners[:, :2] <= corners[:, 2:]).all(-1))


def distinct(corners: NDArray[np.float32], max_overlap: float) -> list[int]:
    """Returns the positions of boxes that overlap none before them; at most `MAX_BOXES`.

    Args:
        corners: float32 (N, 4), the strongest first.
        max_overlap: the largest IoU of two boxes that both stay.
    """
    left = np.arange(len(corners))
    kept: list[int] = []
    while len(left) and len(kept) < MAX_BOXES:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        left = left[overlaps(corners[first], corners[left]) <= max_overlap]
    return kept


def overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the intersection over union of a box (4,) with each of N others (N, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = _area(low, high)
    both = _area(box[:2], box[2:]) + _area(others[:, :2], others[:, 2:]) - shared
    shares: NDArray[np.float32] = np.divide(shared, both, out=np.zeros_like(shared), where=both > 0)
    return shares


def _area(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _shares(box: NDArray[np.float32]) -> Edges:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom
