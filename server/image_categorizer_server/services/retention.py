"""Retention: what tenants keep for how long; what is older is removed, in pages.

Any number of processes may remove at once, and each may die: a page is one transaction.  Events of
the audit are removed by `AuditStatements`, with a signed statement.
"""

import math
import time
from collections.abc import Mapping
from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import retention as rows
from image_categorizer_server.domain.retention import (
    DataClass,
    RetentionForecast,
    RetentionRule,
)
from image_categorizer_server.errors import FailedPrecondition, InvalidRequest
from image_categorizer_server.services.audit_statement import signing_key_of
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.audit import MIN_KEEP_DAYS
from image_categorizer_server.settings.retention import MAX_DAYS
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
DAY_S = 86_400
# Small, so that calls which need the same rows do not wait long.
ROWS_AT_ONCE = 500
SWEPT = [data_class for data_class in DataClass if data_class is not DataClass.AUDIT]
Changes = Mapping[DataClass, int | None]
"""New numbers of days; None for the default."""


class Retentions:
    """What tenants keep for how long."""

    def __init__(
        self, default_days: Mapping[DataClass, float], interval_s: float, *, cuts_audit: bool
    ) -> None:
        """Configures it.

        Args:
            default_days: how many days each class is kept by tenants that say nothing else; 0: for
                ever.
            interval_s: how often a process looks for what is too old, in seconds.
            cuts_audit: whether events of the audit are removed at all: that needs a signing key.
        """
        self._default_days = default_days
        self._interval_s = interval_s
        self._cuts_audit = cuts_audit
        self._sweep_at_s = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Retentions":
        """Returns what the settings ask for.

        Raises:
            OperatorError: the signing key cannot be read.
        """
        own, cuts_audit = settings.retention, signing_key_of(settings.audit) is not None
        default_days = {
            DataClass.IMAGES: own.images_days,
            DataClass.RESULTS: own.results_days,
            DataClass.BATCHES: own.batches_days,
            DataClass.DELIVERIES: settings.webhook.keep_deliveries_s / DAY_S,
            DataClass.AUDIT: settings.audit.keep_days if cuts_audit else 0,
        }
        return cls(default_days, own.sweep_interval_s, cuts_audit=cuts_audit)

    # What callers can do.

    async def get(self, tenant_id: str) -> list[RetentionRule]:
        """Returns a rule for each class.

        Raises:
            DependencyDown: the database does not answer.
        """
        return self._rules(await rows.own_days(tenant_id))

    async def update(self, tenant_id: str, changes: Changes) -> list[RetentionRule]:
        """Changes rules of a tenant; returns all of them.

        Raises:
            InvalidRequest: there is no change, or a number of days is not valid.
            FailedPrecondition: no events of the audit are removed here.
            DependencyDown: the database does not answer.
        """
        if not changes:
            raise InvalidRequest.of([("rules", "are required")])
        self._check(changes)
        await rows.set_days(tenant_id, changes, clock.now())
        return await self.get(tenant_id)

    async def preview(self, tenant_id: str, changes: Changes) -> list[RetentionForecast]:
        """Returns what would go now, if the rules changed; removes nothing.

        Raises:
            InvalidRequest: a number of days is not valid.
            FailedPrecondition: no events of the audit are removed here.
            DependencyDown: the database does not answer.
        """
        self._check(changes)
        days = {**await rows.own_days(tenant_id), **changes}
        own = {name: number for name, number in days.items() if number is not None}
        now = clock.now()
        forecasts = []
        for rule in self._rules(own):
            found = rows.NOTHING
            if rule.days:
                before = now - timedelta(days=rule.days)
                found = await rows.preview(rule.data_class, tenant_id, before)
            forecasts.append(RetentionForecast(rule, *found))
        return forecasts

    def _rules(self, own: Mapping[DataClass, int]) -> list[RetentionRule]:
        return [
            RetentionRule(
                data_class,
                own.get(data_class, self._default_days[data_class]),
                is_default=data_class not in own,
            )
            for data_class in DataClass
        ]

    def _check(self, changes: Changes) -> None:
        wrong = []
        for data_class, days in changes.items():
            field = f"rules[{data_class.value}].days"
            if days is not None and not 0 <= days <= MAX_DAYS:
                wrong.append((field, f"must be in [0, {MAX_DAYS}], is {days}"))
            elif data_class is DataClass.AUDIT and days and days < MIN_KEEP_DAYS:
                wrong.append((field, f"must be 0 or at least {MIN_KEEP_DAYS}, is {days}"))
        if wrong:
            raise InvalidRequest.of(wrong)
        if changes.get(DataClass.AUDIT) and not self._cuts_audit:
            raise FailedPrecondition(
                "events of the audit are kept for ever: the server has no key that signs "
                "statements (CATEGORIZER_AUDIT__SIGNING_KEY_FILE)"
            )

    # The work.

    async def sweep_at_intervals(self, max_pages: int) -> None:
        """Sweeps if the last sweep was long enough ago, or has not removed all.

        Raises:
            DependencyDown: the database does not answer.
        """
        if time.monotonic() < self._sweep_at_s:
            return
        if await self.sweep(max_pages):
            self._sweep_at_s = time.monotonic() + self._interval_s

    async def sweep(self, max_pages: int) -> bool:
        """Removes what tenants no longer keep; returns whether nothing is left of it.

        Args:
            max_pages: the maximum number of transactions.

        Raises:
            DependencyDown: the database does not answer.
        """
        now = clock.now()
        for data_class in SWEPT:
            for old in await rows.find_due(data_class, self._default_days[data_class], now):
                removed, total = ROWS_AT_ONCE, 0
                while removed == ROWS_AT_ONCE:
                    if max_pages <= 0:
                        return False
                    max_pages -= 1
                    removed = await rows.remove(data_class, old, ROWS_AT_ONCE, now)
                    total += removed
                log.info(
                    "removed what was too old",
                    data_class=data_class.value,
                    count=total,
                    owner_id=old.tenant_id,
                )
        return True


def whole_days(days: float) -> int:
    """Returns a number of days, rounded up."""
    return math.ceil(days)
