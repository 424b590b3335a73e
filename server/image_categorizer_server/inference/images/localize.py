"""Locates categories in an image: boxes and heat maps, from features of the network.

    features (K, h, w) ─▶ maps (n, h, w) ─▶ enlarged ─▶ above a threshold ─▶ parts ─▶ boxes
                                               └─────────────▶ colours over the image ─▶ PNG

Boxes follow Zhou et al. 2016 (arXiv:1512.04150, section 3.2).  Networks see resized and cropped
images; boxes are in pixels of the upright image.

A network that takes inputs of any size sees the whole picture too, in more detail.  Both maps
together are better than either: the coarse one covers objects, the fine one knows their edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import Box, ClassifyOptions, Prediction
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.images.encode import encode_png
from image_categorizer_server.inference.images.preprocess import (
    Edges,
    Input,
    InputSpec,
    seen_part,
)

# Position between the smallest and the largest value of a map.  Zhou et al. use 0.2 of the largest.
# Mean IoU of boxes on 164 photographs pasted into backgrounds, with MobileNetV2 and DeiT-tiny: 0.56
# and 0.61 at 0.2, 0.61 and 0.74 at 0.3, 0.62 and 0.77 at 0.35, 0.63 and 0.77 at 0.4, 0.61 and 0.68
# at 0.5.
THRESHOLD = 0.35
SEARCH_CELLS = 56  # side of the grid for boxes: a resolution of 1.8 % of the image
# For whole pictures.  Fitted with EfficientNet-Lite0 on half of 40 photographs with boxes drawn by
# hand and half of 164 pasted ones: see `tests/integration/test_boxes.py`.  The two shares below
# and `WHOLE_AREA` were chosen on all of them.
WHOLE_THRESHOLD = 0.25
OWN_SHARE = 0.2
"""Weight of the map of the network's own input, beside that of the whole picture."""
NEGATIVE_SHARE = 0.5
"""How much of a negative weight counts: what speaks against a category, such as a second object,
should not cut its box (Bae et al. 2020, doi:10.1007/978-3-030-58555-6_37)."""
OBJECT_PEAK = 0.5
"""How strong another part must be for a box of its own, where the strongest has 1."""
MAX_BOXES = 20
OPACITY = 0.6
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Map = NDArray[np.float32]
Part = tuple[int, int, int, int]
WHOLE: Edges = (0.0, 0.0, 1.0, 1.0)


class Located(NamedTuple):
    """Predictions with boxes, and the heat map."""

    predictions: list[Prediction]
    heat_map: bytes


class Features(NamedTuple):
    """What a network knows about one image."""

    own: NDArray[np.float32]
    """float32 (K, h, w) of the network's input."""
    whole: NDArray[np.float32] | None = None
    """float32 (K, h, w) of the whole picture, for class activation; None if it was not seen."""


class Grid(NamedTuple):
    """Where the cells of a map are in the network's input."""

    offset: float = 0.0
    """How far right of and below a regular grid their centres are, in cells."""
    is_extended: bool = False
    """Whether the map keeps its slope beyond the centres of the outermost cells; else its value."""


REGULAR = Grid()


class Localizer:
    """Locates the categories of one model; thread-safe."""

    def __init__(
        self,
        localization: Localization,
        category_weights: NDArray[np.float32] | None,
        spec: InputSpec,
        cell_offset: float = 0.0,
    ) -> None:
        """Configures the localizer.

        Args:
            localization: the kind of features.
            category_weights: float32 (C, K), the weight of each feature for each category; None if
                the features are one map for all categories.
            spec: how images become inputs.
            cell_offset: how far right of and below a regular grid the cells are, in cells; see
                `centres`.
        """
        self.localization = localization
        self.category_weights = category_weights
        self._spec = spec
        # Patches of a transformer end where their neighbours begin.  The cells of convolutions
        # overlap, and a map that keeps its slope up to the edges gives better boxes: mean IoU of
        # 0.625 instead of 0.617 for MobileNetV2.
        self.grid = Grid(cell_offset, is_extended=category_weights is not None)

    @classmethod
    def read(
        cls, localization: Localization, weights: Path, spec: InputSpec, cell_offset: float
    ) -> "Localizer | None":
        """Returns the localizer of an exported network; None if it has no features; blocks.

        Args:
            localization: the kind of features.
            weights: the file with `category_weights`, for class activation.
            spec: how images become inputs.
            cell_offset: as in the constructor.

        Raises:
            OSError: the file is missing.
        """
        if localization is Localization.NONE:
            return None
        is_one_map = localization is Localization.ATTENTION_ROLLOUT
        by_category = None if is_one_map else np.load(weights, allow_pickle=False)
        return cls(localization, by_category, spec, cell_offset)

    def locate(
        self,
        features: Features,
        seen: Input,
        predictions: list[Prediction],
        indices: Mapping[str, int],
        options: ClassifyOptions,
    ) -> Located:
        """Returns the predictions with boxes, and the heat map, as `options` request; blocks.

        Args:
            features: the network's for this image.
            seen: the network's input, with the picture for a heat map.
            predictions: by descending confidence.
            indices: position of each category among the network's outputs.
            options: `bounding_boxes` and `explain`.
        """
        if not predictions:
            return Located(predictions, b"")
        chosen = [indices[p.category.name] for p in predictions]
        size_px = seen.width_px, seen.height_px
        heat_map = b""
        if options.explain and seen.picture is not None:
            heat_map = self.heat_map(seen.picture, self.maps(features.own, chosen[:1])[0])
        if options.bounding_boxes:
            found = self.boxes(features, chosen, size_px)
            predictions = [
                replace(prediction, bounding_boxes=tuple(boxes))
                for prediction, boxes in zip(predictions, found, strict=True)
            ]
        return Located(predictions, heat_map)

    def maps(self, features: NDArray[np.float32], chosen: Sequence[int]) -> Map:
        """Returns a map float32 (n, h, w) in [0, 1] for each of n categories, 1 at its strongest.

        A map without differences locates nothing; it becomes 1 everywhere.

        Args:
            features: float32 (K, h, w).
            chosen: positions of the categories among the network's outputs.
        """
        return scaled(self._sums(features, chosen, 1.0))

    def _sums(
        self, features: NDArray[np.float32], chosen: Sequence[int], negative_share: float
    ) -> Map:
        """Returns maps before they are scaled; `negative_share` of negative weights counts."""
        if self.category_weights is None:
            return np.repeat(features[:1], len(chosen), axis=0)
        weights = self.category_weights[list(chosen)]
        weights = np.where(weights < 0, weights * np.float32(negative_share), weights)
        flat = features.reshape(features.shape[0], -1)
        # One by one: a product of matrices rounds otherwise than that of a row, so that a map
        # would depend on the others.
        return np.stack([row @ flat for row in weights]).reshape(-1, *features.shape[1:])

    def boxes(
        self, features: Features, chosen: Sequence[int], size_px: tuple[int, int]
    ) -> list[list[Box]]:
        """Returns boxes inside the image for each category, the strongest first, at least one.

        Args:
            features: the network's for this image.
            chosen: positions of the categories among the network's outputs.
            size_px: width and height of the upright image.
        """
        if features.whole is None:
            own = self.maps(features.own, chosen)
            maps, threshold = [self._enlarged(values) for values in own], THRESHOLD
            edges = seen_part(size_px, self._spec)
        else:
            maps = self._whole_maps(features, features.whole, chosen, size_px)
            threshold, edges = WHOLE_THRESHOLD, WHOLE
        return [
            [in_pixels(part, values.shape, edges, size_px) for part in parts(values, threshold)]
            for values in maps
        ]

    def _whole_maps(
        self,
        features: Features,
        whole: NDArray[np.float32],
        chosen: Sequence[int],
        size_px: tuple[int, int],
    ) -> list[Map]:
        """Returns a map in [0, 1] of the whole picture for each category, from both features.

        What the network's own input shows less clearly than the whole picture counts less.
        """
        fine, coarse = (self._sums(f, chosen, NEGATIVE_SHARE) for f in (whole, features.own))
        edges = seen_part(size_px, self._spec)
        maps: list[Map] = []
        for values, own in zip(fine, coarse, strict=True):
            large = self._enlarged(scaled(values))
            clarity = np.ptp(own) / max(np.ptp(own), np.ptp(values), np.float32(1e-6))
            over = self._laid_over(scaled(own), large.shape, edges) * clarity
            maps.append(scaled((1 - OWN_SHARE) * large + OWN_SHARE * over))
        return maps

    def _enlarged(self, values: Map) -> Map:
        down, across = (
            _whole(count, max(SEARCH_CELLS, count), self.grid) for count in values.shape
        )
        return interpolated(values, down, across)

    def heat_map(self, picture: NDArray[np.uint8], values: Map) -> bytes:
        """Returns a PNG of the upright image in grey with the map in colour.

        Args:
            picture: uint8 (H, W, 3), the upright image.
            values: float32 (h, w) in [0, 1], one of `maps`.
        """
        return encode_png(warmed(picture, self._over_image(values, picture.shape[:2])))

    def _over_image(self, values: Map, shape: tuple[int, ...]) -> Map:
        """Returns the map in the shape (H, W) of the image; 0 outside the crop."""
        return self._laid_over(values, shape, seen_part((shape[1], shape[0]), self._spec))

    def _laid_over(self, values: Map, shape: tuple[int, ...], edges: Edges) -> Map:
        across, down = (
            spread(values.shape[1 - axis], shape[1 - axis], edges[axis], edges[axis + 2], self.grid)
            for axis in (0, 1)
        )
        return interpolated(values, down, across)


def scaled(maps: Map) -> Map:
    """Returns maps (…, h, w) in [0, 1], each with 1 at its strongest; 1 without differences."""
    low, high = (f(maps, axis=(-2, -1), keepdims=True) for f in (np.min, np.max))
    differs = high - low > 1e-6 * np.maximum(abs(low), abs(high))
    return np.where(differs, (maps - low) / np.where(differs, high - low, 1), 1)


def in_pixels(
    part: Part | Edges, cells: tuple[int, ...], edges: Edges, size_px: tuple[int, int]
) -> Box:
    """Returns a part of a map in pixels of the image, at least one pixel wide and high.

    Args:
        part: left, top, right, bottom in cells.
        cells: h and w of the map.
        edges: the part of the image that the map shows, as shares of it.
        size_px: width and height of the image.
    """
    at: list[int] = []
    for axis, cell in zip((0, 1, 0, 1), part, strict=True):
        share = edges[axis] + (edges[axis + 2] - edges[axis]) * cell / cells[1 - axis]
        at.append(round(share * size_px[axis]))
    left, top = (min(max(at[axis], 0), size_px[axis] - 1) for axis in (0, 1))
    right, bottom = (min(max(at[axis], 1), size_px[axis % 2]) for axis in (2, 3))
    return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def interpolated(values: Map, down: Map, across: Map) -> Map:
    """Returns the map in [0, 1], interpolated with a matrix of `spread` for each axis."""
    large: Map = np.matmul(np.matmul(down, values), across.T)
    return large.clip(0, 1)


@lru_cache(maxsize=64)
def _whole(source: int, target: int, grid: Grid) -> Map:
    return spread(source, target, 0, 1, grid)


def spread(source: int, target: int, start: float, end: float, grid: Grid = REGULAR) -> Map:
    """Returns a matrix float32 (target, source) for linear interpolation of cell centres.

    Args:
        source: number of cells before the interpolation.
        target: number of cells after it.
        start: position of the start of the source in the target, as a share; rows before it are 0.
        end: position of its end; rows after it are 0.
        grid: where the centres of the source's cells are between start and end.
    """
    centres = (np.arange(target) + 0.5) / target
    at = (centres - start) / (end - start) * source - 0.5 - grid.offset
    is_outside = (centres < start) | (centres > end)
    within = at.clip(0, source - 1)
    near = (1 - abs(within[:, None] - np.arange(source))).clip(0)
    if grid.is_extended and source > 1:
        beyond = (at - within)[:, None]
        near[:, :2] += beyond.clip(max=0) * (-1, 1)
        near[:, -2:] += beyond.clip(min=0) * (-1, 1)
    return np.where(is_outside[:, None], 0, near).astype(np.float32)


def parts(values: Map, threshold: float) -> list[Part]:
    """Returns left, top, right, bottom of the parts of a map that show an object.

    The part with the largest sum is the strongest and comes first; others follow if they reach
    `OBJECT_PEAK` somewhere, unless they lie inside the box of a stronger one, as the parts of one
    object do.  Right and bottom are exclusive.

    Cells are connected by their edges.  Works on runs, the sequences of set cells in a row.  A
    smooth map has one or two runs per row, so this takes 0.1 ms; single cells would take 3 ms.

    Args:
        values: float32 (h, w) in [0, 1], at least one of them as large as the threshold.
        threshold: of the cells in a part.
    """
    height, width = values.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = values >= threshold
    changes = np.diff(padded, axis=1)
    rows, starts = (changes > 0).nonzero()
    ends = (changes < 0).nonzero()[1]
    roots = _roots(rows.tolist(), starts.tolist(), ends.tolist())
    between = np.stack([rows * width + starts, rows * width + ends], axis=1).ravel()
    flat = np.append(values.ravel(), np.float32(0))
    sums = np.bincount(roots, np.add.reduceat(flat, between)[::2])
    peaks = np.zeros(len(sums), np.float32)
    np.maximum.at(peaks, roots, np.maximum.reduceat(flat, between)[::2])
    strongest, *others = sums.argsort(kind="stable")[::-1][: np.count_nonzero(sums)].tolist()
    edges: list[Part] = []
    for root in [strongest, *(root for root in others if peaks[root] >= OBJECT_PEAK)]:
        own = roots == root
        left, right = starts[own].min(), ends[own].max()
        top, bottom = rows[own].min(), rows[own].max() + 1
        part = int(left), int(top), int(right), int(bottom)
        if not any(_is_inside(part, stronger) for stronger in edges):
            edges.append(part)
        if len(edges) == MAX_BOXES:
            break
    return edges


def _is_inside(part: Part, other: Part) -> bool:
    """Whether more than half of a rectangle lies in another."""
    width = min(part[2], other[2]) - max(part[0], other[0])
    height = min(part[3], other[3]) - max(part[1], other[1])
    area = (part[2] - part[0]) * (part[3] - part[1])
    return max(width, 0) * max(height, 0) > area / 2


def _roots(rows: list[int], starts: list[int], ends: list[int]) -> NDArray[np.intp]:
    """Returns a number for each run, equal for connected ones; runs are ordered by rows."""
    parents: list[int] = []
    above: list[tuple[int, int, int]] = []
    here: list[tuple[int, int, int]] = []
    last_row = -1
    for row, start, end in zip(rows, starts, ends, strict=True):
        if row != last_row:
            above, here, last_row = (here if row == last_row + 1 else []), [], row
        run = len(parents)
        parents.append(run)
        for other_start, other_end, other in above:
            if other_start < end and start < other_end:
                parents[_root(parents, other)] = _root(parents, run)
        here.append((start, end, run))
    return np.array([_root(parents, run) for run in range(len(parents))])


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = run = parents[parents[run]]
    return run


def warmed(image: NDArray[np.uint8], heat: Map) -> NDArray[np.uint8]:
    """Returns uint8 (H, W, 3): the image in grey, red to yellow as `heat` rises from 0 to 1."""
    grey = image @ LUMA
    warm = np.stack(
        [np.full_like(heat, 255), 255 * (2 * heat - 1).clip(0, 1), np.zeros_like(heat)], axis=2
    )
    opacity = (OPACITY * heat)[:, :, None]
    blended = grey[:, :, None] * (1 - opacity) + warm * opacity
    drawn: NDArray[np.uint8] = np.rint(blended).astype(np.uint8)
    return drawn
