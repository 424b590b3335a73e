"""Examples of a tenant's categories as numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]
OTHER = -1
"""The label of an example that shows none of the tenant's categories."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Embeddings with labels."""

    vectors: Vectors
    """float32 (N, D), each of length 1."""
    labels: NDArray[np.intp]
    """intp (N,): positions in the categories, or OTHER."""
    category_count: int

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: Mask) -> "Labelled":
        """Returns those that a bool (N,) chooses."""
        return Labelled(self.vectors[chosen], self.labels[chosen], self.category_count)

    @property
    def counts(self) -> NDArray[np.intp]:
        """How many of each category there are, intp (C,)."""
        return np.bincount(self.labels[self.labels != OTHER], minlength=self.category_count)

    @property
    def others(self) -> Vectors:
        """The embeddings of those of no category, float32 (M, D)."""
        found: Vectors = self.vectors[self.labels == OTHER]
        return found


def unit(vectors: Vectors) -> Vectors:
    """Returns vectors divided by their lengths; those of length 0 remain."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def softmax(logits: Vectors) -> Vectors:
    """Returns probabilities, float32 (N, K), from logits of that shape."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Vectors = powers / powers.sum(axis=-1, keepdims=True)
    return shares
