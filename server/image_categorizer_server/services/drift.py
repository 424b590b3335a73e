"""Drift: what models predict, counted in memory, written at intervals, compared with earlier days.

    classify ─▶ count ─▶ sums of this process ─▶ every few seconds: added to the database
                                                    └─▶ compared: by RPC, and once a day

A process that crashes loses what it has not written.  The images of batches count, too; one that
is tried twice may count twice.  Requests that filter categories do not count: what they are
answered is not what the model sees.
"""

import asyncio
import threading
import time
from collections import Counter
from datetime import date, timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import drift as rows
from image_categorizer_server.domain.classification import Classification, ClassifyOptions
from image_categorizer_server.domain.drift import (
    MIN_IMAGES,
    NO_PREDICTION,
    Days,
    Drift,
    DriftState,
    Version,
    bin_of,
    drift_of,
)
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import DependencyDown, InvalidRequest
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.settings.drift import DriftSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MAX_SUMS = 100_000
"""While the database is down, a process keeps so many sums, and loses later ones."""
CHECK_INTERVAL_S = 600.0
CHECK_AT_ONCE = 100
# After midnight, other processes still write what they have counted before.
DAY_ENDS_AFTER = timedelta(seconds=600)
REMOVE_AT_ONCE = 1000
MAX_WINDOW_DAYS = 7
REFERENCE_FROM_DAYS, REFERENCE_TO_DAYS = 30, 7
MAX_REFERENCE_DAYS = 400


class PredictionMeter:
    """What this process has predicted since it was last written."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sums: Counter[rows.Key] = Counter()
        self._lost = 0

    def count(self, tenant_id: str, answer: Classification, options: ClassifyOptions) -> None:
        """Adds an answer; thread-safe."""
        if options.include_categories or options.exclude_categories:
            return
        best = answer.predictions[0] if answer.predictions else None
        category = best.category.name if best else NO_PREDICTION
        day, model = clock.now().date(), answer.model
        of_version = tenant_id, day, model.name, model.version
        with self._lock:
            self._add((*of_version, rows.CATEGORY, category), 1)
            confidence = bin_of(best.confidence if best else 0.0)
            self._add((*of_version, rows.CONFIDENCE, confidence), 1)

    def _add(self, key: rows.Key, images: int) -> None:
        if key in self._sums or len(self._sums) < MAX_SUMS:
            self._sums[key] += images
        else:
            self._lost += images

    async def flush(self) -> None:
        """Writes what was counted.

        Raises:
            DependencyDown: the database does not answer; the next flush writes it.
        """
        with self._lock:
            taken, self._sums = self._sums, Counter()
            lost, self._lost = self._lost, 0
        if lost:
            log.error("counts of predictions were lost: the database was down too long", lost=lost)
        try:
            with all_tenants():
                await rows.add(taken)
        except BaseException:  # also if it is cancelled: the last flush writes it
            with self._lock:
                for key, images in taken.items():
                    self._add(key, images)
            raise

    async def run(self) -> None:
        """Writes at intervals, and looks for drift, until cancelled."""
        check_at_s = 0.0
        while True:
            await asyncio.sleep(clock.jittered(self._settings.flush_interval_s, 0.1))
            try:
                await self.flush()
                if time.monotonic() >= check_at_s:
                    check_at_s = time.monotonic() + CHECK_INTERVAL_S
                    await self.check((clock.now() - DAY_ENDS_AFTER).date() - timedelta(days=1))
            except DependencyDown as error:
                log.warning("predictions will be counted later", why=error.message)

    async def check(self, day: date) -> list[Drift]:
        """Warns of versions that have drifted on a day that is over, each once among all processes.

        It also counts rare categories of that day together, and removes what is too old.

        Returns:
            Those that it has warned of.

        Raises:
            DependencyDown: the database does not answer.
        """
        drifted = []
        with all_tenants():
            while found := await rows.claim_unchecked(day, CHECK_AT_ONCE):
                await rows.merge_rare(day)
                for version in found:
                    drift = await compare(version, day)
                    if self._is_alarming(drift):
                        drifted.append(drift)
                        _warn(drift)
            oldest = day - timedelta(days=self._settings.retention_days)
            while await rows.remove_before(oldest, REMOVE_AT_ONCE):
                pass
        return drifted

    def _is_alarming(self, drift: Drift) -> bool:
        above = self._settings.warn_above
        is_known = drift.state is not DriftState.NOT_ENOUGH_IMAGES
        return is_known and 0 < above <= drift.index

    async def close(self) -> None:
        """Writes what is left, if the database answers."""
        try:
            await self.flush()
        except DependencyDown as error:
            log.warning("counts of predictions were lost", why=error.message)


def _warn(drift: Drift) -> None:
    log.warning(
        "predictions have drifted",
        tenant_id=drift.version.tenant_id,
        model=drift.version.model,
        version=drift.version.number,
        day=drift.window.days.last.isoformat(),
        category_index=round(drift.category_index, 4),
        confidence_index=round(drift.confidence_index, 4),
    )


async def compare(
    version: Version, end: date, window_days: int = 1, reference: Days | None = None
) -> Drift:
    """Returns how what a version predicts differs from what it predicted before.

    Args:
        version: the version.
        end: the last day of the window.
        window_days: the days of the window; with too few images, days before are added, up to 7.
        reference: what to compare with; None for 30 to 7 days before the end.

    Raises:
        DependencyDown: the database does not answer.
    """
    longest = Days(end - timedelta(days=MAX_WINDOW_DAYS - 1), end)
    before = reference or Days(
        end - timedelta(days=REFERENCE_FROM_DAYS), end - timedelta(days=REFERENCE_TO_DAYS)
    )
    by_day = await rows.images_by_day(version, longest)
    first = end - timedelta(days=window_days - 1)
    lowest = max(longest.first, before.last + timedelta(days=1))
    while first > lowest and _images_since(by_day, first) < MIN_IMAGES:
        first -= timedelta(days=1)
    window = await rows.read(version, Days(first, end))
    return drift_of(version, window, await rows.read(version, before))


def _images_since(by_day: dict[date, int], first: date) -> int:
    return sum(images for day, images in by_day.items() if day >= first)


class Drifts:
    """What callers can ask about drift.  Each sees only that of its own tenant."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def drift(
        self,
        tenant_id: str,
        name: str,
        version: int | str | None,
        window: Days | None = None,
        reference: Days | None = None,
    ) -> Drift:
        """Returns how what a version predicts differs from what it predicted before.

        Args:
            tenant_id: the tenant.
            name: the model.
            version: a number or an alias; None for the version that answers requests without one.
            window: days to compare, at most 7; None for today.
            reference: the days to compare with; None for 30 to 7 days before the last day.

        Raises:
            ModelNotFound: there is no such model or version.
            InvalidRequest: days are in the wrong order, or too many.
            DependencyDown: the database does not answer.
        """
        today = clock.now().date()
        window = window or Days(today, today)
        if reference:
            _check_reference(reference, window)
        number = self._registry.status(name, version).ref.version
        length = (window.last - window.first).days + 1
        return await compare(Version(tenant_id, name, number), window.last, length, reference)


def _check_reference(reference: Days, window: Days) -> None:
    """Passes days that are in order, before a window, and not too many.

    Raises:
        InvalidRequest: they are not.
    """
    if reference.last < reference.first:
        raise InvalidRequest.of([("reference_end_date", "must not be before reference_start_date")])
    if reference.last >= window.first:
        raise InvalidRequest.of([("reference_end_date", "must be before the window")])
    if (reference.last - reference.first).days >= MAX_REFERENCE_DAYS:
        text = f"must be at most {MAX_REFERENCE_DAYS} days before reference_end_date"
        raise InvalidRequest.of([("reference_start_date", text)])
