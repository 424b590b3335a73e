"""Results of batches that are encrypted."""

from contextlib import suppress
from typing import Protocol

from image_categorizer_server.errors import NotFound, ResultErased


class Sealing(Protocol):
    """Encrypts what is stored; see `stores/sealing.py`."""

    @property
    def is_on(self) -> bool:
        """Whether it encrypts."""

    async def seal(self, key: str, content: bytes) -> bytes:
        """Encrypts what is stored by a key."""
        ...

    async def open(self, key: str, stored: bytes) -> bytes:
        """Decrypts it."""
        ...


def key_of(tenant_id: str, batch_id: str, number: int) -> str:
    """Returns what the predictions of an item are bound to: nobody can put them in another row."""
    return f"{tenant_id}/results/{batch_id}/{number}"


async def opened(key: str, sealed: bytes, sealing: Sealing | None) -> str:
    """Returns encrypted predictions as JSON.

    Args:
        key: see `key_of`.
        sealed: what is stored.
        sealing: decrypts it; None if encryption is off.

    Raises:
        ResultErased: the key was erased, or is missing, or another row's predictions stand here.
        DependencyDown: the database does not answer.
    """
    if sealing is not None:
        with suppress(NotFound):
            return (await sealing.open(key, sealed)).decode()
    raise ResultErased("what the model found was erased, or its key is missing")
