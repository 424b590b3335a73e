"""Rate limits and quotas: who is charged, for what, and what happens while Redis is down.

A call with valid credentials takes from the limits of its tenant, of its key and of its address,
and from the tenant's images of the day, in one step.  One with bad credentials takes more, from its
address only: the owner of a key cannot be locked out from elsewhere.

While Redis does not answer, each process allows its share of every limit, and management RPCs are
closed.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from cachetools import LRUCache, TTLCache

from image_categorizer_server import clock
from image_categorizer_server.db import limit as rows
from image_categorizer_server.db.database import Connection, connected
from image_categorizer_server.db.locks import lock_batch_quota
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.domain.limit import (
    Charge,
    DailyQuota,
    Decision,
    Limits,
    Rate,
    daily_images,
    rate_of,
)
from image_categorizer_server.errors import (
    CategorizerError,
    DependencyDown,
    QuotaExceeded,
    RateLimited,
)
from image_categorizer_server.settings.limit import QuotaSettings
from image_categorizer_server.stores.limiter import LocalLimiter, RedisLimiter
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ReadOverrides = Callable[[str], Awaitable[Mapping[str, object]]]
"""Returns the limits of a tenant that differ from the settings; raises DependencyDown."""
MAX_TENANTS = 10_000
MAX_ADDRESSES = 10_000
STORED_BYTES_CACHE_S = 2.0
# An address of IPv6 is one of 2^64 that its owner has.
IPV6_OWNER_BITS = 64
SUBJECTS = {"tenant": "the tenant", "key": "the API key", "address": "the address"}


class Limiter:
    """Charges calls."""

    def __init__(
        self,
        store: RedisLimiter,
        settings: QuotaSettings,
        read_overrides: ReadOverrides | None = None,
    ) -> None:
        """Configures the limiter.

        Args:
            store: counts for all servers together.
            settings: the limits of tenants that have none of their own.
            read_overrides: reads those that have; None if there are none.
        """
        self._store = store
        self._local = LocalLimiter(settings.expected_servers)
        self._settings = settings
        self._defaults = Limits(
            requests_per_s=settings.requests_per_s,
            request_burst=settings.request_burst,
            key_requests_per_s=settings.key_requests_per_s,
            key_request_burst=settings.key_request_burst,
            images_per_day=settings.images_per_day,
            concurrent_batches=settings.concurrent_batches,
            stored_bytes=settings.stored_bytes,
        )
        self._read_overrides = read_overrides
        self._limits: TTLCache[str, Limits] = TTLCache(MAX_TENANTS, settings.tenant_cache_s)
        self._blocked_until_s: LRUCache[str, float] = LRUCache(MAX_ADDRESSES)
        """Addresses that have used up their limit, on the clock of `time.monotonic`."""

    async def limits_of(self, tenant_id: str) -> Limits:
        """Returns the limits of a tenant; those of the settings while its own cannot be read."""
        if self._read_overrides is None:
            return self._defaults
        limits = self._limits.get(tenant_id)
        if limits is None:
            try:
                limits = self._defaults.overridden(await self._read_overrides(tenant_id))
            except DependencyDown:
                return self._defaults
            except ValueError as error:
                log.warning("the limits of a tenant are ignored", tenant=tenant_id, why=str(error))
                limits = self._defaults
            self._limits[tenant_id] = limits
        return limits

    def forget_tenant(self, tenant_id: str) -> None:
        """Reads the limits of a tenant again at its next call: they have changed."""
        self._limits.pop(tenant_id, None)

    def forget_all(self) -> None:
        """Reads all limits again: changes may have gone unnoticed."""
        self._limits.clear()

    # Before authentication.

    def check_address(self, address: str) -> None:
        """Passes an address that has not used up its limit, as far as this process knows.

        Raises:
            RateLimited: it has.
        """
        until_s = self._blocked_until_s.get(address)
        if until_s is not None and (wait_s := until_s - time.monotonic()) > 0:
            raise RateLimited(
                f"too many requests from this address; ask again in {wait_s:.2g} s",
                wait_s,
                "address_requests_per_s",
            )

    async def penalize(self, address: str) -> None:
        """Charges an address for bad credentials."""
        if limit := self._address_limit(address):
            await self._take([Charge(limit, self._settings.failure_cost)], address)

    # After it.

    async def charge(
        self, caller: Principal, address: str, images: int, *, is_administration: bool
    ) -> Decision | None:
        """Charges one request; returns what the limits say, None if there are none.

        Workers are not charged: the images of a batch were, when it was accepted.

        Args:
            caller: who makes the request.
            address: of the caller; empty for none.
            images: how many images the request is.
            is_administration: whether it is refused while Redis is down.

        Raises:
            DependencyDown: Redis is down, and the request is refused for it.
        """
        if caller.role is Role.WORKER:
            return None
        charges = self._charges(await self.limits_of(caller.tenant_id), caller, images)
        if address_limit := self._address_limit(address):
            charges.append(Charge(address_limit))
        if not charges:
            return None
        return await self._take(charges, address, is_closed=is_administration)

    def _charges(self, limits: Limits, caller: Principal, images: int) -> list[Charge]:
        tenant_id = caller.tenant_id
        charges: list[Charge] = []
        if limits.requests_per_s:
            rate, burst = limits.requests_per_s, limits.request_burst
            charges.append(Charge(rate_of("tenant", f"tenant:{tenant_id}", rate, burst)))
        if limits.key_requests_per_s:
            rate, burst = limits.key_requests_per_s, limits.key_request_burst
            # The tenant, too: names of users are unique only within it.
            key = f"key:{tenant_id}:{caller.actor_id}"
            charges.append(Charge(rate_of("key", key, rate, burst)))
        if limits.images_per_day and images:
            charges.append(Charge(daily_images(tenant_id, limits.images_per_day), images))
        return charges

    async def take_images(self, tenant_id: str, count: int) -> None:
        """Takes from a tenant's images of the day.

        Raises:
            QuotaExceeded: there are not so many left; nothing was taken.
        """
        limits = await self.limits_of(tenant_id)
        if not limits.images_per_day:
            return
        decision = await self._take([Charge(daily_images(tenant_id, limits.images_per_day), count)])
        if decision.refused_by:
            raise _too_many_images(decision, count)

    async def give_back_images(self, tenant_id: str, count: int) -> None:
        """Gives back what was taken for images that are not classified."""
        limits = await self.limits_of(tenant_id)
        if limits.images_per_day:
            charge = Charge(daily_images(tenant_id, limits.images_per_day), count)
            self._store.give_back([charge])

    async def _take(
        self, charges: list[Charge], address: str = "", *, is_closed: bool = False
    ) -> Decision:
        try:
            decision = await self._store.take(charges)
        except DependencyDown:
            if is_closed:
                raise
            decision = self._local.take(charges)
        if decision.refused_by and decision.refused_by.name == "address":
            self._blocked_until_s[address] = time.monotonic() + decision.retry_after_s
        return decision

    def _address_limit(self, address: str) -> Rate | None:
        rate = self._settings.address_requests_per_s
        if not rate or not address:
            return None
        key = f"address:{owner_of(address)}"
        return rate_of("address", key, rate, self._settings.address_request_burst)


def owner_of(address: str) -> str:
    """Returns what addresses of one owner have in common."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, IPV6_OWNER_BITS), strict=False))
    return address


def refusal_of(decision: Decision) -> CategorizerError:
    """Returns the error of a decision that refuses one request."""
    limit, wait_s = decision.refused_by, decision.retry_after_s
    assert limit is not None
    if isinstance(limit, DailyQuota):
        return _too_many_images(decision, 1)
    setting = {"tenant": "requests_per_s"}.get(limit.name, f"{limit.name}_requests_per_s")
    return RateLimited(
        f"{SUBJECTS[limit.name]} may make {limit.per_s:g} requests per second, "
        f"{limit.burst} at once; ask again in {wait_s:.2g} s",
        wait_s,
        setting,
    )


def _too_many_images(decision: Decision, count: int) -> QuotaExceeded:
    (standing,) = (s for s in decision.standings if isinstance(s.limit, DailyQuota))
    resets = (clock.now() + timedelta(seconds=standing.reset_s)).strftime("%Y-%m-%dT%H:%MZ")
    quota = standing.limit.quota
    needs = "" if count == 1 else f"there are {count} images, and "
    return QuotaExceeded(
        f"{needs}{standing.remaining} of the {quota} images of this day are left; "
        f"the quota resets at {resets}",
        standing.reset_s,
        "images_per_day",
    )


class BatchAdmission:
    """Admits one batch, in the transaction that makes it or restarts it."""

    def __init__(self, limiter: Limiter, tenant_id: str, stored_bytes: int = 0) -> None:
        """Prepares to ask.

        Args:
            limiter: knows the limits.
            tenant_id: the tenant.
            stored_bytes: size of the images that the batch adds.
        """
        self._limiter = limiter
        self._tenant_id = tenant_id
        self._stored_bytes = stored_bytes

    async def lock(self, connection: Connection) -> None:
        """Makes other batches of the tenant wait until the transaction ends, if it has quotas."""
        limits = await self._limiter.limits_of(self._tenant_id)
        if limits.images_per_day or limits.concurrent_batches or limits.stored_bytes:
            await lock_batch_quota(connection, self._tenant_id)

    async def admit(self, connection: Connection, images: int) -> None:
        """Passes a batch that exceeds no quota of its tenant, and takes its images.

        Raises:
            QuotaExceeded: it exceeds one; nothing was taken.
        """
        limits = await self._limiter.limits_of(self._tenant_id)
        if limits.concurrent_batches:
            count = await rows.unfinished_batches(connection, self._tenant_id)
            if count >= limits.concurrent_batches:
                raise QuotaExceeded(
                    f"{count} batches have not ended, the most that the tenant may have; "
                    "wait for one to end, or cancel one",
                    quota="concurrent_batches",
                )
        if limits.stored_bytes:
            used = await rows.stored_bytes(connection, self._tenant_id)
            _admit_bytes("batch", self._stored_bytes, limits.stored_bytes, used)
        await self._limiter.take_images(self._tenant_id, images)


@dataclass(slots=True)
class _Used:
    stored_bytes: int


class ImageAdmission:
    """Admits images that are stored one by one.

    What a tenant stores is read once in a while, and what this process admits is added.  So several
    processes together may exceed a quota by what they store within that time.
    """

    def __init__(self, limiter: Limiter) -> None:
        """Prepares to ask.

        Args:
            limiter: knows the limits.
        """
        self._limiter = limiter
        self._used: TTLCache[str, _Used] = TTLCache(MAX_TENANTS, STORED_BYTES_CACHE_S)

    async def admit(self, tenant_id: str, size_bytes: int) -> None:
        """Passes an image that fits into the `stored_bytes` of its tenant, and counts it.

        Raises:
            QuotaExceeded: it does not fit.
            DependencyDown: the database does not answer.
        """
        limits = await self._limiter.limits_of(tenant_id)
        if not limits.stored_bytes:
            return
        used = self._used.get(tenant_id)
        if used is None:
            async with connected() as connection:
                found = await rows.stored_bytes(connection, tenant_id)
            used = self._used.setdefault(tenant_id, _Used(found))
        _admit_bytes("image", size_bytes, limits.stored_bytes, used.stored_bytes)
        used.stored_bytes += size_bytes

    def give_back(self, tenant_id: str, size_bytes: int) -> None:
        """Takes an image that was admitted, and not stored after all, out of the count."""
        if used := self._used.get(tenant_id):
            used.stored_bytes = max(0, used.stored_bytes - size_bytes)


def _admit_bytes(name: str, size_bytes: int, quota_bytes: int, used_bytes: int) -> None:
    free_bytes = max(0, quota_bytes - used_bytes)
    if size_bytes > free_bytes:
        raise QuotaExceeded(
            f"the {name} has {size_bytes} bytes, and {free_bytes} of the tenant's {quota_bytes} "
            "are free; delete images, or batches that have ended",
            quota="stored_bytes",
        )
