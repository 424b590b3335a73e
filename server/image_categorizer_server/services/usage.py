"""Usage: counted in memory, written at intervals, read by tenants.

    classify ─▶ count ──────────┐
    model call ─▶ charge_model ─┴─▶ sums of this process ─▶ every few seconds: added to the database

A process that crashes loses what it has not written.  The images of batches are counted in the
transaction that writes their outcomes, exactly; only the time of the model that they took is
counted here.
"""

import asyncio
import threading
import time
from datetime import date, timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import usage as rows
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.classification import Caller
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.domain.usage import Usage, UsageGroup, UsageKey, UsageRow
from image_categorizer_server.errors import DependencyDown, InvalidRequest
from image_categorizer_server.settings.usage import UsageSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MAX_ROWS = 10_000
MAX_SUMS = 100_000
"""While the database is down, a process keeps so many sums, and loses later ones."""
DEFAULT_DAYS = 30
REMOVE_INTERVAL_S = 3600.0
REMOVE_AT_ONCE = 1000


class UsageMeter:
    """What callers of this process have used since it was last written."""

    def __init__(self, settings: UsageSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sums: dict[UsageKey, Usage] = {}
        self._lost = 0

    def count(self, caller: Caller, model: str, used: Usage) -> None:
        """Adds to what a caller has used of a model; thread-safe."""
        key = UsageKey(caller.tenant_id, clock.now().date(), caller.key_id, model)
        with self._lock:
            self._add(key, used)

    def charge_model(self, caller: Caller, model: str, model_ms: float) -> None:
        """Adds time of a model; thread-safe."""
        self.count(caller, model, Usage(model_ms=model_ms))

    def _add(self, key: UsageKey, used: Usage) -> None:
        total = self._sums.get(key)
        if total is not None:
            total += used
        elif len(self._sums) < MAX_SUMS:
            self._sums[key] = used
        else:
            self._lost += 1

    async def flush(self) -> None:
        """Writes what was counted.

        Raises:
            DependencyDown: the database does not answer; the next flush writes it.
        """
        with self._lock:
            taken, self._sums = self._sums, {}
            lost, self._lost = self._lost, 0
        if lost:
            log.error("usage was lost: the database was down for too long", counts=lost)
        try:
            with all_tenants():
                async with connected() as connection:
                    await rows.add(connection, taken)
        except BaseException:  # also if it is cancelled: the last flush writes it
            with self._lock:
                for key, used in taken.items():
                    self._add(key, used)
            raise

    async def run(self) -> None:
        """Writes at intervals, and removes what is older than the retention, until cancelled."""
        remove_at_s = 0.0
        while True:
            await asyncio.sleep(clock.jittered(self._settings.flush_interval_s, 0.1))
            try:
                await self.flush()
                if time.monotonic() >= remove_at_s:
                    remove_at_s = time.monotonic() + REMOVE_INTERVAL_S
                    await self.remove_old()
            except DependencyDown as error:
                log.warning("usage will be written later", why=error.message)

    async def remove_old(self) -> None:
        """Removes the rows whose retention is over.

        Raises:
            DependencyDown: the database does not answer.
        """
        oldest = clock.now().date() - timedelta(days=self._settings.retention_days)
        with all_tenants():
            while await rows.remove_before(oldest, REMOVE_AT_ONCE):
                pass

    async def close(self) -> None:
        """Writes what is left, if the database answers."""
        try:
            await self.flush()
        except DependencyDown as error:
            log.warning("usage was lost: the database does not answer", why=error.message)


async def read_usage(
    tenant_id: str, start: date | None, end: date | None, group: UsageGroup
) -> tuple[date, date, list[UsageRow]]:
    """Returns the first and the last day, and the usage of a tenant.

    Args:
        tenant_id: the tenant.
        start: the first day, in UTC; None for 30 days up to the last.
        end: the last day; None for today.
        group: by what it is summed up.

    Raises:
        InvalidRequest: the last day is before the first.
        DependencyDown: the database does not answer.
    """
    last = end or clock.now().date()
    first = start or max(date.min + timedelta(days=DEFAULT_DAYS), last) - timedelta(
        days=DEFAULT_DAYS - 1
    )
    if last < first:
        raise InvalidRequest.of([("end_date", "must not be before start_date")])
    return first, last, await rows.read(tenant_id, first, last, group, MAX_ROWS)
