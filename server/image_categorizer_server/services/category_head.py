"""A tenant's own categories in the answers.

    embedding of an image ─▶ like an example? its category
                          └▶ similar enough to a category? the head decides which

The examples of a tenant and model are read at its first call, and kept until a notification says
that they have changed.  A tenant without categories pays one look into a dictionary.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakValueDictionary

import numpy as np

from image_categorizer_server.db import category as rows
from image_categorizer_server.domain.category import HeadKind, HeadState
from image_categorizer_server.domain.classification import (
    Category,
    Classification,
    ClassifyOptions,
    ModelRef,
    Neighbour,
    Prediction,
    Source,
)
from image_categorizer_server.inference.heads.examples import (
    OTHER,
    Labelled,
    Vectors,
    softmax,
    unit,
)
from image_categorizer_server.inference.heads.linear import Linear
from image_categorizer_server.inference.heads.means import Means
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.services.correction import MAX_NEIGHBOURS, is_admitted
from image_categorizer_server.services.head_fitting import FitHeads
from image_categorizer_server.services.neighbours import STORED
from image_categorizer_server.settings import Settings

MAX_SETS = 100_000
"""How many heads are kept, most of them empty."""
WEIGHTS = "<f4"
Key = tuple[str, str]
"""Tenant, and digest of the model."""


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


class CategoryHeads:
    """Answers the tenants' own categories, and has their heads fitted."""

    def __init__(self, settings: Settings, fitting: "FitHeads[Head]") -> None:
        """Configures the service.

        Args:
            settings: of categories, and of what counts as the same image.
            fitting: makes new heads.
        """
        self._settings = settings.category
        self._same_from = settings.correction.min_similarity
        self._memory_bytes = settings.correction.memory_bytes
        self._fitting = fitting
        self._heads: OrderedDict[Key, Head] = OrderedDict()
        self._size_bytes = 0
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._reading: dict[Key, bool] = {}
        """The heads that are being read, and whether examples have changed meanwhile."""

    async def head(self, tenant_id: str, model: ModelRef) -> Head:
        """Returns the head of a tenant and model, with all examples before the call.

        Raises:
            DependencyDown: it is not known, and the database does not answer.
        """
        key = tenant_id, model.digest
        if (found := self._kept(key)) is not None:
            return found
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            if (found := self._kept(key)) is not None:
                return found
            found = await self._read(key)
        if found or await rows.unseen(tenant_id, model.digest, 1):
            self._fitting.want(tenant_id, model, self.read)
        return found

    async def read(self, tenant_id: str, model_digest: str) -> Head:
        """Returns what the database has of a head.

        Raises:
            DependencyDown: the database does not answer.
        """
        most = 2 * self._settings.max_examples
        found = await rows.read_examples(tenant_id, model_digest, most)
        tried = await rows.read_heads(tenant_id, model_digest) if found else []
        return await asyncio.to_thread(head_of, found, tried, self._settings.min_similarity)

    def _kept(self, key: Key) -> Head | None:
        found = self._heads.get(key)
        if found is not None:
            self._heads.move_to_end(key)
        return found

    async def _read(self, key: Key) -> Head:
        self._reading[key] = False
        try:
            found = await self.read(*key)
            if not self._reading[key]:
                self._keep(key, found)
        finally:
            del self._reading[key]
        return found

    def _keep(self, key: Key, head: Head) -> None:
        self._heads[key] = head
        self._size_bytes += head.examples.vectors.nbytes
        while len(self._heads) > 1 and (
            self._size_bytes > self._memory_bytes or len(self._heads) > MAX_SETS
        ):
            self._drop(next(iter(self._heads)))

    def _drop(self, key: Key) -> None:
        self._size_bytes -= self._heads.pop(key).examples.vectors.nbytes

    def forget_tenant(self, tenant_id: str) -> None:
        """Drops what is known of a tenant, whose examples have changed."""
        for key in [key for key in self._heads if key[0] == tenant_id]:
            self._drop(key)
        for key in self._reading:
            if key[0] == tenant_id:
                self._reading[key] = True

    def forget_all(self) -> None:
        """Drops what is known of all tenants: any examples may have changed."""
        self._heads.clear()
        self._size_bytes = 0
        self._reading = dict.fromkeys(self._reading, True)

    async def state(self, tenant_id: str, model: ModelRef) -> HeadState:
        """Returns what decides for a tenant and model, and how the last trial went.

        Raises:
            DependencyDown: the database does not answer.
        """
        head = await self.head(tenant_id, model)
        kind = HeadKind.NONE
        if head:
            kind = HeadKind.LINEAR if head.linear else HeadKind.MEANS
        trial = head.tried[0].trial if head.tried else None
        is_fitting = self._fitting.is_wanted(tenant_id, model.digest)
        return HeadState(model, kind, len(head.examples), is_fitting, trial)

    def answered(
        self, answer: Classification, model: LoadedModel, options: ClassifyOptions, head: Head
    ) -> Classification:
        """Returns the answer with the tenant's category as its first prediction.

        It is unchanged if the image shows none of them, if the model says the same, or if the
        options do not admit the category.

        Args:
            answer: with its embedding.
            model: has answered.
            options: of the call.
            head: of the tenant and the model.
        """
        assert answer.embedding is not None, "made, as there are examples"
        decision = head.decide(answer.embedding, self._same_from)
        if decision is None or decision.confidence < options.confidence_threshold:
            return answer
        name = decision.category
        says_so = bool(answer.predictions) and answer.predictions[0].category.name == name
        if says_so or not _may_answer(name, model, options):
            return answer
        position = model.tree.positions.get(name)
        category = Category(name) if position is None else model.tree.categories[position]
        first = Prediction(category, decision.confidence, source=Source.OWN_CATEGORY)
        predictions = [first, *answer.predictions][: options.top_k]
        return replace(answer, predictions=predictions, neighbours=decision.neighbours)


def _may_answer(name: str, model: LoadedModel, options: ClassifyOptions) -> bool:
    """Returns whether a category of the tenant passes the filters, which name the model's."""
    if name in model.tree.positions:
        return is_admitted(name, model, options)
    return not options.include_categories
