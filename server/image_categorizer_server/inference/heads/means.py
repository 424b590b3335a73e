"""The mean of each category's examples: decides without training, and says what is similar enough.

An image belongs to one of the categories if its similarity to one of their means, the cosine of the
angle between embeddings, reaches that category's threshold.  Each example has been compared with
the mean of the others, so it is known how similar pictures of a category are: the threshold is
`SPREADS` standard deviations below their average, and never below the least similarity that the
settings allow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.inference.heads.examples import OTHER, Labelled, Vectors, unit

SPREADS = 2.5
SCALES = (5.0, 10.0, 20.0, 40.0, 80.0)
"""By what similarities may be multiplied to become logits."""
FEW_SCALE = 20.0
"""While a category has one example only, nothing can be held out to choose a scale by."""


@dataclass(frozen=True, eq=False)
class Means:
    """The means, and how similar an image must be to them."""

    directions: Vectors
    """float32 (C, D), each of length 1."""
    thresholds: Vectors
    """float32 (C,)."""
    others: Vectors
    """float32 (M, D): examples of no category, each of length 1."""
    scale: float

    @classmethod
    def of(cls, examples: Labelled, min_similarity: float) -> "Means":
        """Returns the means of examples, at least one of each category.

        Args:
            examples: with labels.
            min_similarity: no threshold is below it.
        """
        directions = _directions(examples)
        held_out = _held_out(examples)
        own = held_out[np.arange(len(examples)), examples.labels]
        thresholds = np.full(examples.category_count, min_similarity, np.float32)
        for category in np.flatnonzero(examples.counts > 1):
            found = own[examples.labels == category]
            thresholds[category] = max(min_similarity, found.mean() - SPREADS * found.std())
        scale = _scale(held_out, examples)
        return cls(directions, thresholds, examples.others, scale)

    def similarities(self, vectors: Vectors) -> Vectors:
        """Returns the similarity of each vector to each mean, float32 (N, C)."""
        return vectors @ self.directions.T

    def logits(self, vectors: Vectors) -> Vectors:
        """Returns logits, float32 (N, C), or (N, C + 1) with that of no category as the last."""
        found = self.similarities(vectors)
        if len(self.others):
            other = (vectors @ self.others.T).max(axis=1, keepdims=True)
            found = np.concatenate([found, other], axis=1)
        return found * np.float32(self.scale)


def _sums(examples: Labelled) -> Vectors:
    sums = np.zeros((examples.category_count, examples.vectors.shape[1]), np.float32)
    known = examples.labels != OTHER
    np.add.at(sums, examples.labels[known], examples.vectors[known])
    return sums


def _directions(examples: Labelled) -> Vectors:
    return unit(_sums(examples))


def _held_out(examples: Labelled) -> Vectors:
    """Returns the similarity of each example to each mean of the others, float32 (N, C)."""
    sums = _sums(examples)
    found = examples.vectors @ unit(sums).T
    known = np.flatnonzero(examples.labels != OTHER)
    labels = examples.labels[known]
    without = unit(sums[labels] - examples.vectors[known])
    found[known, labels] = (examples.vectors[known] * without).sum(axis=1)
    return found


def _scale(held_out: Vectors, examples: Labelled) -> float:
    """Returns the scale that makes the held out examples most probable."""
    counts = examples.counts
    known = np.flatnonzero(examples.labels != OTHER)
    known = known[counts[examples.labels[known]] > 1]
    if not known.size:
        return FEW_SCALE
    labels: NDArray[np.intp] = examples.labels[known]

    def loss(scale: float) -> float:
        logits = held_out[known].astype(np.float64) * scale
        most = logits.max(axis=1)
        total = np.log(np.exp(logits - most[:, None]).sum(axis=1)) + most
        return float((total - logits[np.arange(len(known)), labels]).mean())

    return min(SCALES, key=loss)
