"""The head of a tenant and model: what decides between the tenant's own categories.

like an example of feedback or of a category? what that shows
similar enough to a category's mean? what the regression says, or the nearest mean
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from image_categorizer_server.db import category as rows
from image_categorizer_server.domain.classification import Neighbour
from image_categorizer_server.inference.heads.examples import (
    OTHER,
    Labelled,
    Vectors,
    softmax,
    unit,
)
from image_categorizer_server.inference.heads.linear import Linear
from image_categorizer_server.inference.heads.means import Means
from image_categorizer_server.services.correction import MAX_NEIGHBOURS
from image_categorizer_server.services.neighbours import STORED

WEIGHTS = "<f4"
"""How the weights of a regression are stored: in single precision, little-endian."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a head says about an image."""

    category: str
    confidence: float
    neighbours: tuple[Neighbour, ...]
    """The most similar examples of the category, the nearest first."""


@dataclass(frozen=True, eq=False)
class Head:
    """What decides between the categories of one tenant, as one model sees them."""

    image_ids: tuple[str, ...]
    categories: tuple[str, ...]
    examples: Labelled
    means: Means | None
    """None without examples."""
    linear: Linear | None = None
    """None while the means decide."""
    number: int = 0
    """Of the regression; 0 while the means decide."""
    known: frozenset[str] = frozenset()
    """The images that the regression was fitted to."""
    tried: tuple[rows.HeadRow, ...] = ()
    """The last trial first."""

    def __bool__(self) -> bool:
        return self.means is not None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What the examples show; empty for none of the categories."""
        names = [*self.categories, ""]
        return tuple(names[label] for label in self.examples.labels.tolist())

    @cached_property
    def revision(self) -> str:
        """A hash of the examples, the same on all servers; empty without any."""
        if not self:
            return ""
        said = list(zip(self.image_ids, self.labels, strict=True))
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides, the same on all servers; empty without examples."""
        return f"{self.revision}.{self.number}" if self else ""

    @property
    def is_trial_due(self) -> bool:
        """Whether the examples have changed since the last trial."""
        return not any(row.revision == self.revision for row in self.tried)

    def decide(self, vector: Vectors, same_from: float) -> Decision | None:
        """Returns what an image shows; None if it shows none of the categories.

        Args:
            vector: float32 (D,), of length 1.
            same_from: an image that is as similar to an example shows what that shows.
        """
        assert self.means is not None, "there are examples"
        similarities = self.examples.vectors @ vector
        nearest = int(similarities.argmax())
        if similarities[nearest] >= same_from:
            label, confidence = int(self.examples.labels[nearest]), float(similarities[nearest])
        else:
            label, confidence = self._by_head(vector)
        if label == OTHER:
            return None
        of_label = np.flatnonzero(self.examples.labels == label)
        near = of_label[np.argsort(-similarities[of_label], kind="stable")][:MAX_NEIGHBOURS]
        return Decision(
            self.categories[label],
            min(confidence, 1.0),
            tuple(
                Neighbour(self.image_ids[i], float(similarities[i].clip(-1, 1)))
                for i in near.tolist()
            ),
        )

    def _by_head(self, vector: Vectors) -> tuple[int, float]:
        """Returns the label of an image, and the confidence in it."""
        assert self.means is not None, "there are examples"
        similarities = self.means.similarities(vector[None])[0]
        if not (similarities >= self.means.thresholds).any():
            return OTHER, 0.0
        probabilities = softmax((self.linear or self.means).logits(vector[None]))[0]
        label = int(probabilities.argmax())
        if label == len(self.categories):
            return OTHER, 0.0
        return label, float(probabilities[label] * similarities[label].clip(0, 1))


NONE = Head((), (), Labelled(np.empty((0, 0), np.float32), np.empty(0, np.intp), 0), None)


def head_of(
    found: Sequence[rows.ExampleRow], tried: Sequence[rows.HeadRow], min_similarity: float
) -> Head:
    """Returns the head of examples, with the regression that was promoted last if it fits them."""
    categories = tuple(sorted({row.category for row in found if row.is_own}))
    if not categories:
        return NONE
    positions = {name: i for i, name in enumerate(categories)}
    labels = np.array([positions[r.category] if r.is_own else OTHER for r in found], np.intp)
    vectors = np.array([np.frombuffer(row.vector, STORED) for row in found], np.float32)
    examples = Labelled(unit(vectors), labels, len(categories))
    head = Head(
        tuple(row.image_id for row in found),
        categories,
        examples,
        Means.of(examples, min_similarity),
        tried=tuple(tried),
    )
    promoted = next((row for row in tried if not row.trial.refusal), None)
    if promoted is None or not _fits(promoted, head):
        return head
    weights = np.frombuffer(promoted.weights, WEIGHTS).reshape(-1, vectors.shape[1] + 1)
    linear = Linear(weights[:, :-1].astype(np.float32), weights[:, -1].astype(np.float32))
    known = frozenset(promoted.image_ids)
    return replace(head, linear=linear, number=promoted.number, known=known)


def _fits(row: rows.HeadRow, head: Head) -> bool:
    """Returns whether all that a regression has learned is still said."""
    said = dict(zip(head.image_ids, head.labels, strict=True))
    learned = zip(row.image_ids, row.labels, strict=True)
    return row.categories == head.categories and all(said.get(i) == label for i, label in learned)
