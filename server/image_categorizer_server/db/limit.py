"""What a tenant uses of its quotas."""

from typing import cast

from image_categorizer_server.db.database import Connection

UNFINISHED = """
SELECT count(*) FROM batches WHERE tenant_id = $1 AND state IN ('QUEUED', 'RUNNING', 'CANCELLING')
"""
STORED_BYTES = """
SELECT ((SELECT coalesce(sum(image_bytes), 0) FROM batches WHERE tenant_id = $1)
    + (SELECT coalesce(sum(size_bytes), 0) FROM images WHERE tenant_id = $1))::bigint
"""


async def unfinished_batches(connection: Connection, tenant_id: str) -> int:
    """Returns how many batches have not ended."""
    return cast("int", await connection.fetchval(UNFINISHED, tenant_id))


async def stored_bytes(connection: Connection, tenant_id: str) -> int:
    """Returns the bytes of the images of all batches and of all stored images.

    An image that several of them share counts for each of them.
    """
    return cast("int", await connection.fetchval(STORED_BYTES, tenant_id))
