"""Images on their way to the storage: each is read whole, for its key holds its SHA-256."""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from image_categorizer_server.stores.buckets import too_large

TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is to be kept."""

    key: str
    sha256: str
    """64 hexadecimal digits."""
    content: bytes


async def read_image(tenant_id: str, chunks: AsyncIterator[bytes], max_bytes: int) -> Image:
    """Returns an image of a tenant, whole in memory: its key is known at its end.

    Raises:
        ImageTooLarge: more than `max_bytes`; what comes after them was not read.
    """
    content = bytearray()
    digest = hashlib.sha256()
    async for chunk in chunks:
        if len(content) + len(chunk) > max_bytes:
            raise too_large(max_bytes)
        content += chunk
        digest.update(chunk)
    sha256 = digest.hexdigest()
    return Image(image_key(tenant_id, sha256), sha256, bytes(content))


def image_key(tenant_id: str, sha256: str) -> str:
    """Returns the key of a tenant's image.

    Raises:
        ValueError: the tenant's id has other characters than ours have.
    """
    if not TENANT.fullmatch(tenant_id):
        raise ValueError(f"no id of a tenant: {tenant_id!r}")
    # Two digits in between: no folder on disk holds a million files.
    return f"{tenant_id}/images/{sha256[:2]}/{sha256}"
