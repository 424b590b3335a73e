"""Decides between two categories of which people have corrected one to the other.

    examples of both ┐
                     ├─▶ scaled ─▶ a logistic regression between the two ─▶ a direction, and a bias
    corrections      ┘

Corrections are what a head gets wrong, and say nothing about what it gets right: at full weight,
they would turn the decision around.  Each has `WEIGHT`, and those of a category together at most
that share of the weight of its examples: about the share of two confused categories that a head
gets wrong.  See docs/own-categories.md for what that gains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.inference.heads.examples import Labelled, Mask, Vectors
from image_categorizer_server.inference.heads.linear import fit_linear
from image_categorizer_server.inference.heads.trial import FOLDS, folds_of

WEIGHT = 0.3
"""Of a correction, where an example has 1."""
C = 0.2
"""The inverse strength of the penalty, of each of D features with a deviation of 1: C / D."""
SMOOTHING = 0.1
"""The share of the average variance in that of a feature: few examples measure it badly."""
FIRST, SECOND = 0, 1
"""The labels of the two."""


@dataclass(frozen=True, eq=False)
class Scale:
    """Makes all features count alike."""

    mean: Vectors
    """float32 (D,)."""
    deviation: Vectors
    """float32 (D,), above 0."""

    @classmethod
    def of(cls, vectors: Vectors) -> "Scale":
        """Returns the scale of vectors, float32 (N, D), at least one."""
        variance = vectors.var(axis=0)
        smooth = (1 - SMOOTHING) * variance + SMOOTHING * variance.mean()
        deviation = np.sqrt(np.maximum(smooth, np.finfo(np.float32).eps))
        return cls(vectors.mean(axis=0), deviation.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Pair:
    """Tells the second of two categories from the first."""

    direction: Vectors
    """float32 (D,)."""
    bias: float

    def margins(self, vectors: Vectors) -> Vectors:
        """Returns how much vectors (N, D) look like the second, float32 (N,); below 0 the first."""
        found: Vectors = vectors @ self.direction + np.float32(self.bias)
        return found

    def reversed(self) -> "Pair":
        """Returns what tells the first from the second."""
        return Pair(-self.direction, -self.bias)


def separating(examples: Labelled, is_correction: Mask, scale: Scale) -> Pair | None:
    """Returns what tells two categories apart; None if their corrections cost more than they gain.

    Args:
        examples: of both, with the labels `FIRST` and `SECOND`, and corrections to either.
        is_correction: bool (N,), which of them are corrections.
        scale: of all examples of the head.
    """
    scaled = ((examples.vectors - scale.mean) / scale.deviation).astype(np.float32)
    # A regression is the same in the space of its examples, which has fewer dimensions.
    basis, coordinates = np.linalg.qr(scaled.T)
    short = Labelled(np.ascontiguousarray(coordinates.T), examples.labels, 2)
    c = C / len(scale.mean)
    if not _has_proved(short, is_correction, c):
        return None
    found = _fitted(short, is_correction, c)
    direction = (basis @ found.direction) / scale.deviation
    return Pair(direction.astype(np.float32), found.bias - float(direction @ scale.mean))


def _fitted(examples: Labelled, is_correction: Mask, c: float) -> Pair:
    found = fit_linear(examples, c, weights_of(examples.labels, is_correction))
    direction = found.weights[SECOND] - found.weights[FIRST]
    return Pair(direction, float(found.bias[SECOND] - found.bias[FIRST]))


def weights_of(labels: NDArray[np.intp], is_correction: Mask) -> NDArray[np.float64]:
    """Returns the weight of each example, float64 (N,), with N as their sum.

    The two categories weigh the same.
    """
    weights = np.where(is_correction, WEIGHT, 1.0)
    for category in (FIRST, SECOND):
        of_category = labels == category
        corrected = of_category & is_correction
        count = np.count_nonzero(of_category & ~is_correction)
        if count and corrected.any():
            weights[corrected] *= min(1.0, WEIGHT * count / weights[corrected].sum())
        weights[of_category] /= weights[of_category].sum()
    scaled: NDArray[np.float64] = weights * (len(weights) / weights.sum())
    return scaled


def _has_proved(examples: Labelled, is_correction: Mask, c: float) -> bool:
    """Returns whether corrections gain more than they cost, on what was held out.

    Each part of the examples and corrections is answered after learning the others, once with the
    corrections and once without: the corrected ones, which the head has wrong, count as wrong then.
    Where nothing but corrections shows the second category, each of them counts `WEIGHT`.
    """
    folds = folds_of(examples.labels + 2 * is_correction)
    has_both = bool(examples.of(~is_correction).counts.all())
    gained = lost = 0
    for fold in range(FOLDS):
        held, rest = folds == fold, folds != fold
        plain = rest & ~is_correction
        if not held.any() or not examples.of(rest).counts.all():
            continue
        new = _fitted(examples.of(rest), is_correction[rest], c)
        gained += _right_count(new, examples.of(held & is_correction))
        held &= ~is_correction
        lost -= _right_count(new, examples.of(held))
        if has_both:
            none = np.zeros(np.count_nonzero(plain), bool)
            lost += _right_count(_fitted(examples.of(plain), none, c), examples.of(held))
        else:  # the head never answers the second
            lost += int(np.count_nonzero(held))
    return gained * (1.0 if has_both else WEIGHT) > lost


def _right_count(pair: Pair, examples: Labelled) -> int:
    is_second = pair.margins(examples.vectors) > 0
    return int(np.count_nonzero(is_second == (examples.labels == SECOND)))
