"""Feedback changes the answers for similar images.

    embedding of an image ─▶ its most similar examples ─▶ the category of the nearest

An example is an image that feedback is about, with its embedding by the model that answers.  Those
of a tenant and model are read at its first call, and kept until a notification says that feedback
has changed.  A tenant without examples has an empty set: its calls cost one look into a dictionary.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.db import feedback as rows
from image_categorizer_server.domain.classification import (
    NO_CATEGORY,
    Classification,
    ClassifyOptions,
    Neighbour,
    Prediction,
    Source,
)
from image_categorizer_server.inference.classifier import filters_of
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.services.neighbours import STORED
from image_categorizer_server.settings.correction import CorrectionSettings

MAX_NEIGHBOURS = 5
MAX_SETS = 100_000
"""How many sets are kept, most of them empty."""
Key = tuple[str, str]
"""Tenant, and digest of the model."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The images that feedback of one tenant is about, as one model sees them."""

    image_ids: tuple[str, ...]
    categories: tuple[str, ...]
    vectors: NDArray[np.float32]
    """float32 (N, D), each of length 1."""
    feedback_ids: tuple[str, ...]

    @classmethod
    def of(cls, found: Sequence[rows.ExampleRow]) -> "Examples":
        """Returns the examples of rows."""
        if not found:
            return NONE
        vectors = np.array([np.frombuffer(r.vector, STORED) for r in found], np.float32)
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return cls(
            tuple(row.image_id for row in found),
            tuple(row.category for row in found),
            vectors / np.maximum(lengths, np.finfo(np.float32).tiny),
            tuple(row.feedback_id for row in found),
        )

    def __bool__(self) -> bool:
        return bool(self.image_ids)

    @cached_property
    def revision(self) -> str:
        """A hash of the feedback, the same on all servers; empty without examples."""
        if not self:
            return ""
        return hashlib.sha256(json.dumps(self.feedback_ids).encode()).hexdigest()

    def nearest(
        self, vector: NDArray[np.float32], min_similarity: float
    ) -> tuple[str, tuple[Neighbour, ...]]:
        """Returns the category of the nearest example, and the nearest of that category.

        Args:
            vector: float32 (D,), of length 1.
            min_similarity: how similar they must be.

        Returns:
            The category, and up to `MAX_NEIGHBOURS` examples, the nearest first.  None of them if
            no example is that similar.
        """
        similarities = self.vectors @ vector
        near = np.flatnonzero(similarities >= min_similarity)
        if near.size == 0:
            return "", ()
        near = near[np.argsort(-similarities[near], kind="stable")]
        category = self.categories[near[0]]
        agreeing = [i for i in near.tolist() if self.categories[i] == category]
        return category, tuple(
            Neighbour(self.image_ids[i], min(float(similarities[i]), 1.0))
            for i in agreeing[:MAX_NEIGHBOURS]
        )


NONE = Examples((), (), np.empty((0, 0), np.float32), ())


class Corrections:
    """Corrects answers by the tenant's examples."""

    def __init__(self, settings: CorrectionSettings) -> None:
        """Configures the service."""
        self._settings = settings
        self._sets: OrderedDict[Key, Examples] = OrderedDict()
        self._size_bytes = 0
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._reading: dict[Key, bool] = {}
        """The sets that are being read, and whether feedback has changed meanwhile."""

    async def examples(self, tenant_id: str, model_digest: str) -> Examples:
        """Returns the examples of a tenant and model, with all feedback before the call.

        Raises:
            DependencyDown: they are not known, and the database does not answer.
        """
        key = tenant_id, model_digest
        if (found := self._kept(key)) is not None:
            return found
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            if (found := self._kept(key)) is not None:
                return found
            return await self._read(key)

    def _kept(self, key: Key) -> Examples | None:
        found = self._sets.get(key)
        if found is not None:
            self._sets.move_to_end(key)
        return found

    async def _read(self, key: Key) -> Examples:
        self._reading[key] = False
        try:
            found = Examples.of(await rows.read_examples(*key, self._settings.max_examples))
            if not self._reading[key]:
                self._keep(key, found)
        finally:
            del self._reading[key]
        return found

    def _keep(self, key: Key, examples: Examples) -> None:
        self._sets[key] = examples
        self._size_bytes += examples.vectors.nbytes
        while len(self._sets) > 1 and (
            self._size_bytes > self._settings.memory_bytes or len(self._sets) > MAX_SETS
        ):
            self._drop(next(iter(self._sets)))

    def _drop(self, key: Key) -> None:
        self._size_bytes -= self._sets.pop(key).vectors.nbytes

    def forget_tenant(self, tenant_id: str) -> None:
        """Drops what is known of a tenant, whose feedback has changed."""
        for key in [key for key in self._sets if key[0] == tenant_id]:
            self._drop(key)
        for key in self._reading:
            if key[0] == tenant_id:
                self._reading[key] = True

    def forget_all(self) -> None:
        """Drops what is known of all tenants: any feedback may have changed."""
        self._sets.clear()
        self._size_bytes = 0
        self._reading = dict.fromkeys(self._reading, True)

    def corrected(
        self,
        answer: Classification,
        model: LoadedModel,
        options: ClassifyOptions,
        examples: Examples,
        own: Collection[str] = (),
    ) -> Classification:
        """Returns the answer with the category of the nearest example as its first prediction.

        It is unchanged if no example is near, if the model says the same, or if the options do not
        admit the category.

        Args:
            answer: with its embedding.
            model: has answered.
            options: of the call.
            examples: of the tenant and the model.
            own: the tenant's categories, which filters may name.
        """
        assert answer.embedding is not None, "made, as there are examples"
        least = max(self._settings.min_similarity, options.confidence_threshold)
        name, neighbours = examples.nearest(answer.embedding, least)
        says_so = bool(answer.predictions) and answer.predictions[0].category.name == name
        if not neighbours or says_so or not is_admitted(name, model, options, own):
            return answer
        category = model.tree.categories[model.tree.positions[name]]
        first = Prediction(category, neighbours[0].similarity, source=Source.CORRECTION)
        predictions = [first, *answer.predictions][: options.top_k]
        return replace(answer, predictions=predictions, neighbours=neighbours)


def is_admitted(
    name: str, model: LoadedModel, options: ClassifyOptions, own: Collection[str]
) -> bool:
    """Returns whether the model has a category, and it passes the filters.

    Args:
        name: the category.
        model: has answered.
        options: with the filters.
        own: the tenant's categories, which filters may name.
    """
    if name == NO_CATEGORY:
        return not options.include_categories
    if name not in model.tree.positions:
        return False
    filters = filters_of(model.ref.name, model.tree, options, own)
    return filters.pass_category(model.tree.outputs([name]))
