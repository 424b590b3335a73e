"""Authenticates callers by the `authorization` header, with a short cache."""

from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from image_categorizer_server import clock
from image_categorizer_server.access.api_key import is_well_formed, sha256_of
from image_categorizer_server.domain.access import ApiKey, Principal
from image_categorizer_server.errors import CredentialsInvalid, CredentialsMissing

CACHED_KEYS = 10_000
_UNKNOWN = object()
HELP = "send the header 'authorization: Bearer ic_...'"


class Authenticator:
    """Authenticates callers by their API keys."""

    def __init__(self, find_key: Callable[[str], Awaitable[ApiKey | None]], cache_s: float) -> None:
        """Configures the authenticator.

        Args:
            find_key: returns the key with a SHA-256, None if there is none.
            cache_s: how long a key, or its absence, is cached.  A revoked key works that long, and
                known callers do not notice a database outage that short.
        """
        self._find_key = find_key
        self._cache: TTLCache[str, ApiKey | object | None] = TTLCache(CACHED_KEYS, ttl=cache_s)

    async def authenticate(self, header: str | None) -> Principal:
        """Returns the caller.

        Raises:
            CredentialsMissing: there is no header.
            CredentialsInvalid: the key is malformed, unknown, revoked or expired.
            DependencyDown: the key is not cached and the database does not answer.
        """
        if not header:
            raise CredentialsMissing(f"no credentials: {HELP}")
        row = self._cache.get(header, _UNKNOWN)
        if row is _UNKNOWN:
            row = self._cache[header] = await self._look_up(header)
        if not isinstance(row, ApiKey) or row.revoke_time is not None:
            raise CredentialsInvalid("the API key is not valid")
        if row.expire_time is not None and row.expire_time <= clock.now():
            raise CredentialsInvalid("the API key is not valid")
        return Principal(row.key_id, row.tenant_id, row.role)

    async def _look_up(self, header: str) -> ApiKey | None:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not is_well_formed(key.strip()):
            raise CredentialsInvalid(f"the credentials are not an API key: {HELP}")
        return await self._find_key(sha256_of(key.strip()))
