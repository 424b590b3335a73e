"""Claims whose answer did not arrive: the chunk is leased to a worker that does not know it."""

from collections.abc import Collection
from typing import Any

from image_categorizer_server.db.chunk import give_back
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.batch import Chunk
from image_categorizer_server.domain.classification import ClassifyOptions

LOST = """
SELECT * FROM batch_chunks
WHERE state = 'LEASED' AND worker = $1 AND NOT (lease_token = ANY($2::bigint[]))
"""


async def give_back_lost(worker: str, held: Collection[int]) -> int:
    """Gives back chunks that are leased to a worker without its knowing; returns how many.

    A claim whose answer got lost, or that was cut off after its first statement, leaves one.

    Args:
        worker: the caller, whose name nobody else has or had.
        held: the lease tokens of the chunks that it knows of.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LOST, worker, list(held))
    for row in rows:
        await give_back(_bare(row))
    return len(rows)


def _bare(row: Any) -> Chunk:
    """Returns a chunk of which only the lease is known."""
    return Chunk(
        batch_id=row["batch_id"],
        number=row["number"],
        tenant_id=row["tenant_id"],
        lease_token=row["lease_token"],
        options=ClassifyOptions(),
        items=(),
        worker_crashes=row["worker_crashes"],
        is_isolated=row["is_isolated"],
    )
