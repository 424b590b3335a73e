"""A tenant's own categories in the answers.

    embedding of an image ─▶ like an example? its category
                          └▶ similar enough to a category? the head decides which

The examples of a tenant and model are read at its first call, and kept until a notification says
that they have changed.  A tenant without categories pays one look into a dictionary.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import replace
from weakref import WeakValueDictionary

from image_categorizer_server.db import category as rows
from image_categorizer_server.domain.category import HeadKind, HeadState
from image_categorizer_server.domain.classification import (
    Category,
    Classification,
    ClassifyOptions,
    ModelRef,
    Prediction,
)
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.services.correction import is_admitted
from image_categorizer_server.services.head import Decision, Head, head_of
from image_categorizer_server.services.head_fitting import FitHeads
from image_categorizer_server.settings import Settings

MAX_SETS = 100_000
"""How many heads are kept, most of them empty."""
Key = tuple[str, str]
"""Tenant, and digest of the model."""


class CategoryHeads:
    """Answers the tenants' own categories, and has their heads fitted."""

    def __init__(self, settings: Settings, fitting: FitHeads) -> None:
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
        names = await self.names(tenant_id)
        found = await rows.read_examples(tenant_id, model_digest, most) if names else []
        tried = await rows.read_heads(tenant_id, model_digest) if found else []
        head = await asyncio.to_thread(head_of, found, tried, self._settings.min_similarity)
        return replace(head, names=names)

    async def names(self, tenant_id: str) -> frozenset[str]:
        """Returns the names of a tenant's categories, as the database has them.

        Raises:
            DependencyDown: it does not answer.
        """
        return await rows.names(tenant_id)

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
        self._size_bytes += head.size_bytes
        while len(self._heads) > 1 and (
            self._size_bytes > self._memory_bytes or len(self._heads) > MAX_SETS
        ):
            self._drop(next(iter(self._heads)))

    def _drop(self, key: Key) -> None:
        self._size_bytes -= self._heads.pop(key).size_bytes

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
        count = len(head.examples) + len(head.corrections.image_ids)
        return HeadState(model, kind, count, is_fitting, trial)

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
        if decision is None:
            return answer

        def passes(one: Decision) -> bool:
            is_sure = one.confidence >= options.confidence_threshold
            return is_sure and _may_answer(one.category, model, options, head.names)

        again = head.decide_again(answer.embedding, decision)
        if again is not None and passes(again):
            decision = again
        name = decision.category
        says_so = bool(answer.predictions) and answer.predictions[0].category.name == name
        if says_so or not passes(decision):
            return answer
        position = model.tree.positions.get(name)
        category = Category(name) if position is None else model.tree.categories[position]
        first = Prediction(category, decision.confidence, source=decision.source)
        predictions = [first, *answer.predictions][: options.top_k]
        return replace(answer, predictions=predictions, neighbours=decision.neighbours)


def _may_answer(
    name: str, model: LoadedModel, options: ClassifyOptions, own: Collection[str]
) -> bool:
    """Returns whether one of the tenant's categories passes the filters."""
    if name in options.exclude_categories:
        return False
    if name in options.include_categories:
        return True
    if name in model.tree.positions:
        return is_admitted(name, model, options, own)
    return not options.include_categories
