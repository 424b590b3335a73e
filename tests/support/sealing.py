"""Data keys that only a test has."""

import os
from uuid import uuid4

from image_categorizer_server.domain.data_key import DataKey


class KeysInMemory:
    """One data key for each tenant, and for each subject of it."""

    def __init__(self) -> None:
        self._current: dict[tuple[str, str], DataKey] = {}

    async def current(self, tenant_id: str, subject_key: str) -> DataKey:
        owner = tenant_id, subject_key
        return self._current.setdefault(owner, DataKey(uuid4().hex, os.urandom(32)))

    async def find(self, tenant_id: str, data_key_id: str) -> DataKey | None:
        for (owner, _), found in self._current.items():
            if owner == tenant_id and found.data_key_id == data_key_id:
                return found
        return None

    def erase(self, tenant_id: str) -> None:
        for owner in [owner for owner in self._current if owner[0] == tenant_id]:
            del self._current[owner]
