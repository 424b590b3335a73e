"""The head of a tenant and model: what decides between the tenant's own categories.

like an example of feedback or of a category? what that shows
similar enough to a category's mean? what the regression says, or the nearest mean
have people corrected that to another category? what tells the two apart
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.db import category as rows
from image_categorizer_server.domain.classification import Neighbour, Source
from image_categorizer_server.inference.heads.examples import (
    OTHER,
    Labelled,
    Vectors,
    softmax,
    unit,
)
from image_categorizer_server.inference.heads.linear import Linear
from image_categorizer_server.inference.heads.means import Means
from image_categorizer_server.services.confusion import (
    NOTHING_SAID,
    Confusions,
    Said,
    confusions_of,
)
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
    """The most similar examples of the category, the nearest first; of a correction, those that
    people have corrected alike."""
    source: Source = Source.OWN_CATEGORY
    is_same: bool = False
    """Whether somebody has said what this very image shows."""


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
    corrections: Said = NOTHING_SAID
    """Of its answers."""
    confusions: Confusions = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    """Of all categories of the tenant: also of those without an example that the model has seen."""

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
        if not self:
            return ""
        said = self.corrections
        pairs = list(zip(said.image_ids, said.answered, said.shown, strict=True))
        digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest() if pairs else ""
        return f"{self.revision}.{self.number}.{digest}"

    @property
    def size_bytes(self) -> int:
        """Of the embeddings."""
        return self.examples.vectors.nbytes + self.corrections.vectors.nbytes

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
        corrected = self.corrections.similarities(vector)
        if corrected.size and corrected.max() >= max(same_from, similarities[nearest]):
            return self._as_corrected(corrected)
        is_same = bool(similarities[nearest] >= same_from)
        if is_same:
            label, confidence = int(self.examples.labels[nearest]), float(similarities[nearest])
        else:
            label, confidence = self._by_head(vector)
        if label == OTHER:
            return None
        of_label = np.flatnonzero(self.examples.labels == label)
        near = _neighbours(self.image_ids, similarities, of_label)
        return Decision(self.categories[label], min(confidence, 1.0), near, is_same=is_same)

    def _as_corrected(self, similarities: Vectors) -> Decision | None:
        """Returns what people have said about the nearest correction.

        One of the model's categories, or none, is what `services.correction` answers.
        """
        said, nearest = self.corrections, int(similarities.argmax())
        name = said.shown[nearest]
        if name not in self.categories:
            return None
        alike = np.array([i for i, shown in enumerate(said.shown) if shown == name])
        near = _neighbours(said.image_ids, similarities, alike)
        return Decision(name, min(float(similarities[nearest]), 1.0), near, is_same=True)

    def decide_again(self, vector: Vectors, decision: Decision) -> Decision | None:
        """Returns what corrections make of a decision; None if they leave it.

        Args:
            vector: float32 (D,), of length 1.
            decision: what `decide` has returned.
        """
        confusions = self.confusions.get(decision.category, ())
        if decision.is_same or not confusions:
            return None
        margins = [float(one.pair.margins(vector[None])[0]) for one in confusions]
        best = int(np.argmax(margins))
        if margins[best] <= 0:
            return None
        similarities = self.corrections.similarities(vector)
        near = _neighbours(
            self.corrections.image_ids, similarities, np.array(confusions[best].positions)
        )
        probability = 1 / (1 + float(np.exp(-min(margins[best], 50.0))))
        confidence = probability * decision.confidence
        return Decision(confusions[best].shown, confidence, near, Source.CORRECTION)

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


def _neighbours(
    image_ids: Sequence[str], similarities: Vectors, chosen: NDArray[np.intp]
) -> tuple[Neighbour, ...]:
    """Returns the most similar of chosen images, the nearest first."""
    near = chosen[np.argsort(-similarities[chosen], kind="stable")][:MAX_NEIGHBOURS]
    return tuple(Neighbour(image_ids[i], float(similarities[i].clip(-1, 1))) for i in near.tolist())


NONE = Head((), (), Labelled(np.empty((0, 0), np.float32), np.empty(0, np.intp), 0), None)


def head_of(
    found: Sequence[rows.ExampleRow], tried: Sequence[rows.HeadRow], min_similarity: float
) -> Head:
    """Returns the head of examples, with the regression that was promoted last if it fits them."""
    corrected = _corrections_in(found)
    corrections = [row for row in found if row.image_id in corrected]
    found = [row for row in found if row.image_id not in corrected]
    categories = tuple(sorted({row.category for row in found if row.is_own}))
    if not categories:
        return NONE
    positions = {name: i for i, name in enumerate(categories)}
    labels = np.array([positions[r.category] if r.is_own else OTHER for r in found], np.intp)
    examples, said = _said(found), _said(corrections)
    head = Head(
        examples.image_ids,
        categories,
        Labelled(examples.vectors, labels, len(categories)),
        Means.of(Labelled(examples.vectors, labels, len(categories)), min_similarity),
        tried=tuple(tried),
        corrections=said,
        confusions=confusions_of(examples, said, categories),
    )
    promoted = next((row for row in tried if not row.trial.refusal), None)
    if promoted is None or not _fits(promoted, head):
        return head
    size = examples.vectors.shape[1]
    weights = np.frombuffer(promoted.weights, WEIGHTS).reshape(-1, size + 1)
    linear = Linear(weights[:, :-1].astype(np.float32), weights[:, -1].astype(np.float32))
    known = frozenset(promoted.image_ids)
    return replace(head, linear=linear, number=promoted.number, known=known)


def _corrections_in(found: Sequence[rows.ExampleRow]) -> set[str]:
    """Returns the images of feedback that corrects one of the tenant's categories.

    Both that category and the one that it was corrected to must have other examples: what is
    corrected to a category that has none is its first one.
    """
    plain = [row for row in found if not row.answered or row.answered == row.category]
    taught = {row.category for row in plain if row.is_own}
    return {
        row.image_id
        for row in found
        if row.answered in taught
        and row.answered != row.category
        and (not row.is_own or row.category in taught)
    }


def _said(found: Sequence[rows.ExampleRow]) -> Said:
    if not found:
        return NOTHING_SAID
    return Said(
        tuple(row.image_id for row in found),
        tuple(row.category for row in found),
        unit(np.array([np.frombuffer(row.vector, STORED) for row in found], np.float32)),
        tuple(row.answered for row in found),
    )


def _fits(row: rows.HeadRow, head: Head) -> bool:
    """Returns whether all that a regression has learned is still said."""
    said = dict(zip(head.image_ids, head.labels, strict=True))
    learned = zip(row.image_ids, row.labels, strict=True)
    return row.categories == head.categories and all(said.get(i) == label for i, label in learned)
