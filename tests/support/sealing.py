"""Data keys that only a test has."""

import os
from uuid import uuid4

from image_categorizer_server.domain.data_key import DataKey


class KeysInMemory:
    """One data key for each tenant."""

    def __init__(self) -> None:
        self._current: dict[str, DataKey] = {}

    async def current(self, tenant_id: str) -> DataKey:
        return self._current.setdefault(tenant_id, DataKey(uuid4().hex, os.urandom(32)))

    async def find(self, tenant_id: str, data_key_id: str) -> DataKey | None:
        found = self._current.get(tenant_id)
        return found if found and found.data_key_id == data_key_id else None

    def erase(self, tenant_id: str) -> None:
        del self._current[tenant_id]
