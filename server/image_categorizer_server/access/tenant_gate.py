"""Whether the credentials of a tenant are accepted, with a short cache."""

from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from image_categorizer_server.domain.tenant import TenantState
from image_categorizer_server.errors import CredentialsInvalid, TenantSuspended

CACHED_TENANTS = 10_000
_UNKNOWN = object()


class TenantGate:
    """Lets callers of active tenants pass, whatever their credentials are."""

    def __init__(
        self, find_state: Callable[[str], Awaitable[TenantState | None]], cache_s: float
    ) -> None:
        """Configures the gate.

        Args:
            find_state: returns the state of a tenant, None if it does not exist.
            cache_s: how long a state is cached.  If the notification of a suspension is
                lost, the tenant's credentials work that long.
        """
        self._find_state = find_state
        self._cache: TTLCache[str, object] = TTLCache(CACHED_TENANTS, ttl=cache_s)
        self._changes = 0

    def forget(self, tenant_id: str) -> None:
        """Looks the tenant up again at its next call."""
        self._changes += 1
        self._cache.pop(tenant_id, None)

    def forget_all(self) -> None:
        """Looks every tenant up again."""
        self._changes += 1
        self._cache.clear()

    async def check(self, tenant_id: str, refusal: str) -> None:
        """Passes an active tenant.

        Args:
            tenant_id: the tenant.
            refusal: the text for credentials that do not exist. Nobody learns that these did.

        Raises:
            TenantSuspended: the tenant is suspended.
            CredentialsInvalid: the tenant does not exist, or is being deleted.
            DependencyDown: the state is not cached and the database does not answer.
        """
        state = self._cache.get(tenant_id, _UNKNOWN)
        if state is _UNKNOWN:
            changes = self._changes
            state = await self._find_state(tenant_id)
            # The row may be from before a change whose notification has arrived meanwhile.
            if changes == self._changes:
                self._cache[tenant_id] = state
        if state is TenantState.SUSPENDED:
            raise TenantSuspended("the tenant is suspended: ask the operator of this server")
        if state is not TenantState.ACTIVE:
            raise CredentialsInvalid(refusal)
