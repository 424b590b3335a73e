"""Fits heads in the background: one at a time in each process, once examples rest.

Each server that answers for a tenant fits; the one that is first writes the head, and the others
see that the trial was made.
"""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from image_categorizer_server import clock
from image_categorizer_server.db import category as rows
from image_categorizer_server.db.access_changes import announce_categories
from image_categorizer_server.domain.category import HeadTrial
from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.errors import CategorizerError
from image_categorizer_server.inference.heads.examples import OTHER, Labelled, Mask
from image_categorizer_server.inference.heads.linear import Linear, fit_linear
from image_categorizer_server.inference.heads.trial import Outcome, compared
from image_categorizer_server.services.head import WEIGHTS, Head
from image_categorizer_server.settings.category import CategorySettings
from image_categorizer_server.tasks import TaskOwner
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MAX_WAITING = 1000
UNSEEN_AT_ONCE = 100
JITTER = 0.5
"""Share by which servers differ in how long they wait."""
See = Callable[[str, str, ModelRef], Awaitable[None]]
"""Lets a model see a stored image of a tenant."""


Read = Callable[[str, str], Awaitable[Head]]
"""Returns what the database has of the head of a tenant and model."""


class FitHeads:
    """Fits heads, and compares each with the one before it."""

    def __init__(self, settings: CategorySettings, see: See, tasks: TaskOwner) -> None:
        """Starts without work.

        Args:
            settings: of categories.
            see: called for examples that a model has not seen.
            tasks: owns the work.
        """
        self._settings = settings
        self._see = see
        self._tasks = tasks
        self._turn = asyncio.Semaphore(1)
        self._wanted: set[tuple[str, str]] = set()

    def is_wanted(self, tenant_id: str, model_digest: str) -> bool:
        """Returns whether a head waits to be fitted, or is being fitted."""
        return (tenant_id, model_digest) in self._wanted

    def want(self, tenant_id: str, model: ModelRef, read: Read) -> None:
        """Has a head fitted later if it is due, in the tenant scope of the caller.

        While too many wait, it is not: the next call wants it again.
        """
        key = tenant_id, model.digest
        if key in self._wanted or len(self._wanted) >= MAX_WAITING:
            return
        self._wanted.add(key)
        self._tasks.start(self._run(tenant_id, model, read), "fitter of a head")

    async def _run(self, tenant_id: str, model: ModelRef, read: Read) -> None:
        try:
            head = await read(tenant_id, model.digest)
            while True:
                await asyncio.sleep(clock.jittered(self._settings.fit_delay_s, JITTER))
                rested = await read(tenant_id, model.digest)
                if rested.revision == head.revision:
                    break
                head = rested
            async with self._turn:
                await self._see_all(tenant_id, model)
                await self._fit(tenant_id, model, await read(tenant_id, model.digest))
        except CategorizerError as error:
            log.warning("a head could not be fitted", reason=error.message)
        finally:
            self._wanted.discard((tenant_id, model.digest))

    async def _see_all(self, tenant_id: str, model: ModelRef) -> None:
        """Lets the model see the examples that another version has seen."""
        has_seen = False
        done: set[str] = set()
        while found := set(await rows.unseen(tenant_id, model.digest, UNSEEN_AT_ONCE)) - done:
            done |= found
            for image_id in sorted(found):
                await self._see(tenant_id, image_id, model)
                has_seen = True
        if has_seen:
            await announce_categories(tenant_id)

    async def _fit(self, tenant_id: str, model: ModelRef, head: Head) -> None:
        if not head.is_trial_due or not self._has_enough(head.examples):
            return
        present = next((row for row in head.tried if not row.trial.refusal), None)
        is_known = None
        if head.known:
            is_known = np.array([image_id in head.known for image_id in head.image_ids])
        outcome, linear = await asyncio.to_thread(
            tried, head, is_known, self._settings.max_flips_per_category
        )
        number = max((row.number for row in head.tried), default=0) + 1
        row = _row(number, head, outcome, linear)
        added = await rows.add_head(tenant_id, model.digest, row)
        log.info(
            "a head was tried",
            number=number,
            baseline=present.number if present else 0,
            total=outcome.total_count,
            right=outcome.right_count,
            baseline_right=outcome.baseline_right_count,
            is_kept=added,
            refusal=outcome.refusal,
        )

    def _has_enough(self, examples: Labelled) -> bool:
        counts = examples.counts
        classes = len(counts) + bool((examples.labels == OTHER).any())
        return classes > 1 and int(counts.min()) >= self._settings.min_linear_examples


def tried(
    head: Head, known: Mask | None, max_flips_per_category: int | None
) -> tuple[Outcome, Linear | None]:
    """Returns how a new regression compares with a head, and the regression if it may decide.

    Args:
        head: with enough examples.
        known: bool (N,), those that its own regression was fitted to; None without one.
        max_flips_per_category: see `compared`.
    """
    outcome = compared(head.examples, head.categories, known, max_flips_per_category)
    return outcome, None if outcome.refusal else fit_linear(head.examples)


def _row(number: int, head: Head, outcome: Outcome, linear: Linear | None) -> rows.HeadRow:
    weights = b""
    if linear is not None:
        columns = np.concatenate([linear.weights, linear.bias[:, None]], axis=1)
        weights = columns.astype(WEIGHTS).tobytes()
    return rows.HeadRow(
        number,
        head.revision,
        head.categories,
        head.image_ids,
        head.labels,
        weights,
        HeadTrial(
            clock.now(),
            outcome.total_count,
            outcome.right_count,
            outcome.baseline_right_count,
            outcome.refusal,
        ),
    )
