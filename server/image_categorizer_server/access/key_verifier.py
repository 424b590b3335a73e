"""Verifies API keys, with a short cache."""

from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from image_categorizer_server import clock
from image_categorizer_server.access.api_key import is_well_formed, sha256_of
from image_categorizer_server.domain.access import ApiKey, Principal
from image_categorizer_server.errors import CredentialsInvalid

CACHED_KEYS = 10_000
_UNKNOWN = object()


class KeyVerifier:
    """Verifies API keys."""

    def __init__(self, find_key: Callable[[str], Awaitable[ApiKey | None]], cache_s: float) -> None:
        """Configures the verifier.

        Args:
            find_key: returns the key with a SHA-256, None if there is none.
            cache_s: how long a key, or its absence, is cached.  A revoked key works that long, and
                known callers do not notice a database outage that short.
        """
        self._find_key = find_key
        self._cache: TTLCache[str, ApiKey | object | None] = TTLCache(CACHED_KEYS, ttl=cache_s)

    async def verify(self, key: str) -> Principal:
        """Returns the caller that a key belongs to.

        Raises:
            CredentialsInvalid: the key is malformed, unknown, revoked or expired.
            DependencyDown: the key is not cached and the database does not answer.
        """
        if not is_well_formed(key):
            raise CredentialsInvalid("the API key is not valid")
        secret_sha256 = sha256_of(key)
        row = self._cache.get(secret_sha256, _UNKNOWN)
        if row is _UNKNOWN:
            row = self._cache[secret_sha256] = await self._find_key(secret_sha256)
        if not isinstance(row, ApiKey) or row.revoke_time is not None:
            raise CredentialsInvalid("the API key is not valid")
        if row.expire_time is not None and row.expire_time <= clock.now():
            raise CredentialsInvalid("the API key is not valid")
        return Principal(row.key_id, row.tenant_id, row.role)
