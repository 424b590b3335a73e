"""Verifies API keys, with a cache.

A key is looked up by the SHA-256 of all its characters.  Whoever tries keys cannot choose the
digest, so the time of a look-up reveals nothing about keys that exist.
"""

from collections.abc import Awaitable, Callable

from cachetools import LRUCache, TTLCache

from image_categorizer_server import clock
from image_categorizer_server.access.api_key import is_well_formed, sha256_of
from image_categorizer_server.access.guesses import Guesses
from image_categorizer_server.access.key_uses import KeyUses
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.domain.key import FoundKey
from image_categorizer_server.errors import AddressNotAllowed, CredentialsInvalid

REFUSAL = "the API key is not valid"
CACHED_KEYS = 10_000


class KeyVerifier:
    """Verifies API keys."""

    def __init__(
        self,
        find_key: Callable[[str], Awaitable[FoundKey | None]],
        cache_s: float,
        guesses: Guesses,
        uses: KeyUses,
    ) -> None:
        """Configures the verifier.

        Args:
            find_key: returns the key that has a secret with this SHA-256, None if there is none.
            cache_s: how long a key, or its absence, is cached.  Known callers do not notice a
                database outage that short.  A change of a key takes effect within this time, and
                at once if the verifier is notified of it.
            guesses: limits look-ups of keys that no caller has used before.
            uses: notes each use of a key.
        """
        self._find_key = find_key
        self._guesses = guesses
        self._uses = uses
        self._known: TTLCache[str, FoundKey] = TTLCache(CACHED_KEYS, ttl=cache_s)
        # Apart, so that unknown keys do not drive out known ones.
        self._unknown: TTLCache[str, bool] = TTLCache(CACHED_KEYS, ttl=cache_s)
        self._used_before: LRUCache[str, bool] = LRUCache(CACHED_KEYS)
        self._changes = 0

    async def verify(self, secret: str, address: str) -> Principal:
        """Returns the caller that a key belongs to.

        Args:
            secret: the key.
            address: the IP address of the caller; empty if it calls over a unix socket.

        Raises:
            CredentialsInvalid: the key is malformed, unknown, revoked or expired.
            AddressNotAllowed: the key is not accepted from this address.
            DependencyDown: the key is not cached and the database does not answer.
        """
        if not is_well_formed(secret):
            raise _invalid()
        secret_sha256 = sha256_of(secret)
        if secret_sha256 in self._unknown:
            raise _invalid()
        found = self._known.get(secret_sha256) or await self._look_up(secret_sha256, address)
        if not found.is_valid(clock.now()):
            raise _invalid()
        key = found.key
        if not key.allows(address):
            raise AddressNotAllowed(f"the API key is not accepted from the address {address!r}")
        self._uses.add(key.key_id)
        return Principal(key.key_id, key.tenant_id, key.role, key.scopes)

    def forget_key(self, key_id: str) -> None:
        """Looks a key up again at its next use: it has changed."""
        self._forget(lambda found: found.key.key_id == key_id)

    def forget_tenant(self, tenant_id: str) -> None:
        """Looks all keys of a tenant up again at their next use: the tenant has changed."""
        self._forget(lambda found: found.key.tenant_id == tenant_id)

    def forget_all(self) -> None:
        """Looks all keys up again at their next use: changes may have gone unnoticed."""
        self._forget(lambda _: True)

    def _forget(self, is_stale: Callable[[FoundKey], bool]) -> None:
        self._changes += 1
        for secret_sha256 in list(self._known):
            found = self._known.get(secret_sha256)  # None if its time has passed meanwhile
            if found and is_stale(found):
                self._known.pop(secret_sha256, None)

    async def _look_up(self, secret_sha256: str, address: str) -> FoundKey:
        if secret_sha256 not in self._used_before:
            self._guesses.check(address)
        changes = self._changes
        found = await self._find_key(secret_sha256)
        if found is None:
            self._unknown[secret_sha256] = True
            self._guesses.add(address)
            raise _invalid()
        self._used_before[secret_sha256] = True
        # The row may be from before a change whose notification has arrived meanwhile.
        if changes == self._changes:
            self._known[secret_sha256] = found
        return found


def _invalid() -> CredentialsInvalid:
    return CredentialsInvalid(REFUSAL)
