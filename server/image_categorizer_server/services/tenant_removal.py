"""Removes what deleted tenants have: rows, images and cached answers, then their names."""

from datetime import timedelta
from typing import Protocol

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import tenant_removal as rows
from image_categorizer_server.domain.tenant import Tenant
from image_categorizer_server.services.result_cache import entries_of
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
TENANTS_AT_ONCE = 20
ROWS_AT_ONCE = 500
KEYS_AT_ONCE = 1000


class Cache(Protocol):
    """Keeps entries of tenants.  Calls raise DependencyDown if it does not answer in time."""

    async def remove_all(self, prefix: str) -> int:
        """Removes every key that begins with a prefix; returns how many."""
        ...


class TenantRemoval:
    """Removes deleted tenants; any number of processes may do so at once.

    The batches of a tenant go through the outbox, like those that a caller deletes: the sweeps of
    `Batches` remove their rows and images.  Whatever dies, the next sweep continues.
    """

    def __init__(
        self, storage: Storage, cache: Cache, delay_s: float, rows_at_once: int = ROWS_AT_ONCE
    ) -> None:
        """Configures the removal.

        Args:
            storage: holds the images.
            cache: holds the cached answers.
            delay_s: how long after its deletion a tenant's name stays taken, even if nothing is
                left: calls that had begun end meanwhile.
            rows_at_once: how many rows one transaction removes.
        """
        self._storage = storage
        self._cache = cache
        self._delay_s = delay_s
        self._rows_at_once = rows_at_once

    async def sweep(self, max_pieces: int) -> int:
        """Removes some of what deleted tenants have; returns how many tenants are gone.

        Args:
            max_pieces: the maximum number of transactions for each tenant.

        Raises:
            DependencyDown: the database, the storage or the cache does not answer.
        """
        gone = 0
        for tenant in await rows.list_deleted(TENANTS_AT_ONCE):
            is_without_rows = await self._remove_rows(tenant.tenant_id, max_pieces)
            if is_without_rows and self._may_end(tenant):
                gone += await self._end(tenant.tenant_id)
        return gone

    async def _remove_rows(self, tenant_id: str, max_pieces: int) -> bool:
        """Removes rows; returns whether none are left."""
        for _ in range(max_pieces):
            if not await rows.remove_piece(tenant_id, self._rows_at_once):
                return await rows.is_empty(tenant_id)
            failpoints.hit("tenant.removing")
        return False

    def _may_end(self, tenant: Tenant) -> bool:
        assert tenant.delete_time is not None, "it is being deleted"
        return clock.now() >= tenant.delete_time + timedelta(seconds=self._delay_s)

    async def _end(self, tenant_id: str) -> bool:
        """Removes what no row refers to, and the tenant; returns whether it is gone."""
        page: list[str] = []
        async for found in self._storage.list(tenant_id):
            page.append(found.key)
            if len(page) == KEYS_AT_ONCE:
                await self._storage.delete(page)
                page = []
        await self._storage.delete(page)
        await self._cache.remove_all(entries_of(tenant_id))
        failpoints.hit("tenant.emptied")
        is_gone = await rows.remove_tenant(tenant_id)
        if is_gone:
            log.info("a tenant is removed", removed_tenant_id=tenant_id)
        return is_gone
