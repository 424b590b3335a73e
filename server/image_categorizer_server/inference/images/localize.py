"""Locates categories in an image: boxes and heat maps, from features of the network.

    features (K, h, w) ─▶ maps (n, h, w) ─▶ enlarged ─▶ above a threshold ─▶ largest part ─▶ box
                                               └───────────────▶ colours over the image ─▶ PNG

Boxes follow Zhou et al. 2016 (arXiv:1512.04150, section 3.2).  Networks see resized and cropped
images; boxes are in pixels of the upright image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import ClassifyOptions, Prediction
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.images.decode import encode_png
from image_categorizer_server.inference.images.preprocess import (
    Input,
    InputSpec,
    crop_of,
    resized_size,
)

# Position between the smallest and the largest value of a map.  Zhou et al. use 0.2 of the largest.
# Mean IoU of boxes on 164 photographs pasted into backgrounds, with MobileNetV2 and DeiT-tiny: 0.56
# and 0.61 at 0.2, 0.61 and 0.74 at 0.3, 0.62 and 0.77 at 0.35, 0.63 and 0.77 at 0.4, 0.61 and 0.68
# at 0.5.
THRESHOLD = 0.35
SEARCH_CELLS = 56  # side of the grid for boxes: a resolution of 1.8 % of the image
OPACITY = 0.6
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Map = NDArray[np.float32]
Box = tuple[int, int, int, int]


class Located(NamedTuple):
    """Predictions with boxes, and the heat map."""

    predictions: list[Prediction]
    heat_map: bytes


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
        self._weights = category_weights
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
        features: NDArray[np.float32],
        seen: Input,
        predictions: list[Prediction],
        indices: Mapping[str, int],
        options: ClassifyOptions,
    ) -> Located:
        """Returns the predictions with boxes, and the heat map, as `options` request; blocks.

        Args:
            features: float32 (K, h, w), the network's for this image.
            seen: the network's input, with the picture for a heat map.
            predictions: by descending confidence.
            indices: position of each category among the network's outputs.
            options: `bounding_boxes` and `explain`.
        """
        if not predictions:
            return Located(predictions, b"")
        maps = self.maps(features, [indices[p.category.name] for p in predictions])
        heat_map = b""
        if options.explain and seen.picture is not None:
            heat_map = self.heat_map(seen.picture, maps[0])
        if options.bounding_boxes:
            boxes = self.boxes(maps, (seen.width_px, seen.height_px))
            predictions = [
                replace(prediction, bounding_box=box)
                for prediction, box in zip(predictions, boxes, strict=True)
            ]
        return Located(predictions, heat_map)

    def maps(self, features: NDArray[np.float32], chosen: Sequence[int]) -> Map:
        """Returns a map float32 (n, h, w) in [0, 1] for each of n categories, 1 at its strongest.

        A map without differences locates nothing; it becomes 1 everywhere.
        """
        if self._weights is None:
            maps = np.repeat(features[:1], len(chosen), axis=0)
        else:
            flat = features.reshape(features.shape[0], -1)
            # One by one: a product of matrices rounds otherwise than that of a row, so that a map
            # would depend on the others.
            rows = [self._weights[index] @ flat for index in chosen]
            maps = np.stack(rows).reshape(-1, *features.shape[1:])
        low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        differs = high - low > 1e-6 * np.maximum(abs(low), abs(high))
        return np.where(differs, (maps - low) / np.where(differs, high - low, 1), 1)

    def boxes(self, maps: Map, size_px: tuple[int, int]) -> list[Box]:
        """Returns the box of each map inside the image, at least one pixel wide and high.

        Args:
            maps: float32 (n, h, w), from `maps`.
            size_px: width and height of the upright image.
        """
        cells = max(SEARCH_CELLS, maps.shape[1]), max(SEARCH_CELLS, maps.shape[2])
        parts = (largest_part(self._enlarged(values, cells) >= THRESHOLD) for values in maps)
        return [self._box(part, cells, size_px) for part in parts]

    def _enlarged(self, values: Map, cells: tuple[int, int]) -> Map:
        down, across = (
            _whole(*counts, self.grid) for counts in zip(values.shape, cells, strict=True)
        )
        return interpolated(values, down, across)

    def _box(self, part: Box, cells: tuple[int, ...], size_px: tuple[int, int]) -> Box:
        resized = resized_size(*size_px, self._spec)
        crop = crop_of(resized, self._spec)
        edges: list[int] = []
        for axis, cell in zip((0, 1, 0, 1), part, strict=True):
            seen_px = crop[axis + 2] - crop[axis]
            at = crop[axis] + cell * seen_px / cells[1 - axis]
            edges.append(round(at * size_px[axis] / resized[axis]))
        left, top = (min(max(edges[axis], 0), size_px[axis] - 1) for axis in (0, 1))
        right, bottom = (min(max(edges[axis], 1), size_px[axis % 2]) for axis in (2, 3))
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def heat_map(self, picture: NDArray[np.uint8], values: Map) -> bytes:
        """Returns a PNG of the upright image in grey with the map in colour.

        Args:
            picture: uint8 (H, W, 3), the upright image.
            values: float32 (h, w) in [0, 1], one of `maps`.
        """
        return encode_png(warmed(picture, self._over_image(values, picture.shape[:2])))

    def _over_image(self, values: Map, shape: tuple[int, ...]) -> Map:
        """Returns the map in the shape (H, W) of the image; 0 outside the crop."""
        height_px, width_px = shape
        resized = resized_size(width_px, height_px, self._spec)
        crop = crop_of(resized, self._spec)
        across, down = (
            spread(
                values.shape[1 - axis],
                shape[1 - axis],
                crop[axis] / resized[axis],
                crop[axis + 2] / resized[axis],
                self.grid,
            )
            for axis in (0, 1)
        )
        return interpolated(values, down, across)


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


def largest_part(mask: NDArray[np.bool_]) -> Box:
    """Returns left, top, right, bottom of the largest connected part, the latter two exclusive.

    Cells are connected by their edges.  Works on runs, the sequences of set cells in a row.  A
    smooth map has one or two runs per row, so this takes 0.1 ms; single cells would take 3 ms.

    Args:
        mask: bool (H, W), with at least one cell set.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    changes = np.diff(padded, axis=1)
    rows, starts = (changes > 0).nonzero()
    ends = (changes < 0).nonzero()[1]
    parents: list[int] = []
    above: list[tuple[int, int, int]] = []
    here: list[tuple[int, int, int]] = []
    last_row = -1
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if row != last_row:
            above, here, last_row = (here if row == last_row + 1 else []), [], row
        run = len(parents)
        parents.append(run)
        for other_start, other_end, other in above:
            if other_start < end and start < other_end:
                parents[_root(parents, other)] = _root(parents, run)
        here.append((start, end, run))
    roots = np.array([_root(parents, run) for run in range(len(parents))])
    chosen = roots == np.bincount(roots, ends - starts).argmax()
    left, right = starts[chosen].min(), ends[chosen].max()
    top, bottom = rows[chosen].min(), rows[chosen].max() + 1
    return int(left), int(top), int(right), int(bottom)


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
