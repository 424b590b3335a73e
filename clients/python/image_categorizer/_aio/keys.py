"""The asyncio client's API keys."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Unpack

from image_categorizer import _access_wire
from image_categorizer._access_values import ApiKey, KeyChanges, KeyRole, KeyState
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer.v1 import key_pb2


class AsyncKeys:
    """The tenant's API keys: `client.keys`. Needs a key of the role admin.

    Nobody can give a key, or get the secret of a key, that may do more than they may themselves: a
    higher role, or scopes that they do not have.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        role: KeyRole,
        *,
        scopes: Sequence[str] = (),
        allowed_addresses: Sequence[str] = (),
        expire_time: datetime | None = None,
    ) -> ApiKey:
        """Creates an API key.

            key = await client.keys.create("dashboard", "viewer", scopes=["batches:read"])
            print(key.key_id, key.secret)

        Args:
            name: what people call the key, 1 to 128 characters.
            role: at most the role of the caller's key.
            scopes: what the key is limited to, such as `batches:read`. Default: everything that the
                role permits.
            allowed_addresses: the networks from which the key is accepted, such as `192.0.2.0/24`,
                or addresses. Default: all.
            expire_time: when the key stops being accepted; with a time zone. Default: never.

        Returns:
            The key with its `secret`, which the server never shows again.

        Raises:
            TypeError: a single text stands for a list.
            InvalidRequest: an argument is not valid.
            QuotaExceeded: the tenant has the maximum number of active keys.
            RoleInsufficient: the key would be able to do more than the caller's.
        """
        request = _access_wire.create_key_request(
            name, role, scopes, allowed_addresses, expire_time
        )
        return _access_wire.api_key(
            await self._connection.call_once(self._connection.stubs.admin.CreateApiKey, request)
        )

    async def get(self, key_id: str) -> ApiKey:
        """Returns one key, without its secret.

        Raises:
            KeyNotFound: there is no such key.
        """
        request = key_pb2.GetApiKeyRequest(key_id=key_id)
        return _access_wire.api_key(
            await self._connection.call(self._connection.stubs.admin.GetApiKey, request)
        )

    @listing
    async def list(self, *, state: KeyState | None = None) -> AsyncIterator[ApiKey]:
        """Yields the keys, the oldest first, without their secrets.

        Args:
            state: only keys in this state. Default: all, also those that are expired or revoked.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _access_wire.list_keys_request(state)
        async for page in self._connection.pages(self._connection.stubs.admin.ListApiKeys, request):
            for wire in page.keys:
                yield _access_wire.api_key(wire)

    async def update(self, key_id: str, **changes: Unpack[KeyChanges]) -> ApiKey:
        """Changes what is given; the secret stays. All servers follow within 5 seconds.

            await client.keys.update(key.key_id, role="viewer", scopes=["models:read"])
            await client.keys.update(key.key_id, scopes=[], expire_time=None)

        Args:
            key_id: the key.
            changes: the new values; see `KeyChanges`.

        Raises:
            TypeError: there is no such field, or a single text stands for a list.
            KeyNotFound: there is no such key.
            InvalidRequest: a value is not valid.
            FailedPrecondition: the key is revoked.
            RoleInsufficient: the key is, or would be, able to do more than the caller's.
        """
        request = _access_wire.update_key_request(key_id, changes)
        return _access_wire.api_key(
            await self._connection.call_once(self._connection.stubs.admin.UpdateApiKey, request)
        )

    async def rotate(self, key_id: str, *, overlap: timedelta | None = None) -> ApiKey:
        """Gives a key a new secret.

            key = await client.keys.rotate(key_id, overlap=timedelta(hours=1))
            print(key.secret, key.previous_secret_expire_time)

        Args:
            key_id: the key.
            overlap: how long the secret of now is still accepted, at most 30 days; zero ends it at
                once. Default: a day, a setting of the server.

        Returns:
            The key with its new `secret`, which the server never shows again.

        Raises:
            KeyNotFound: there is no such key.
            FailedPrecondition: the key is revoked.
            RoleInsufficient: the key is able to do more than the caller's.
        """
        request = _access_wire.rotate_key_request(key_id, overlap)
        return _access_wire.api_key(
            await self._connection.call_once(self._connection.stubs.admin.RotateApiKey, request)
        )

    async def revoke(self, key_id: str) -> ApiKey:
        """Ends a key for good. All servers refuse it within 5 seconds, usually within one.

        Raises:
            KeyNotFound: there is no such key.
            RoleInsufficient: the key has a higher role than the caller's.
        """
        request = key_pb2.RevokeApiKeyRequest(key_id=key_id)
        return _access_wire.api_key(
            await self._connection.call(self._connection.stubs.admin.RevokeApiKey, request)
        )
