"""What the batches of a tenant use."""

from typing import cast

from image_categorizer_server.db.database import Connection

TOTALS = """
SELECT count(*) FILTER (WHERE state IN ('QUEUED', 'RUNNING', 'CANCELLING')) AS unfinished,
    coalesce(sum(image_bytes), 0)::bigint AS stored_bytes
FROM batches WHERE tenant_id = $1
"""


async def batch_totals(connection: Connection, tenant_id: str) -> tuple[int, int]:
    """Returns how many batches have not ended, and the bytes of the images of all batches.

    An image that several batches share counts for each of them.
    """
    row = await connection.fetchrow(TOTALS, tenant_id)
    assert row is not None
    return cast("int", row["unfinished"]), cast("int", row["stored_bytes"])
