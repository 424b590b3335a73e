"""Items during which the server died: how often, and whose turn it is to be with the server."""

import asyncio
import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from image_categorizer_server.db.chunk import HELD_UNTIL
from image_categorizer_server.db.convert import crash_counts_from_json
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.batch import Chunk

# Any number will do, as long as no other lock of ours has the same.
TURN_LOCK = 0x1CA7E62
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
ASK_AGAIN_S = 0.01, 0.1
COUNT = f"""
UPDATE batch_chunks
SET server_crashes = server_crashes || (
    SELECT jsonb_object_agg(n, coalesce((server_crashes->>n)::int, 0) + 1)
    FROM unnest($4::text[]) AS n)
WHERE {HELD_UNTIL}
RETURNING server_crashes
"""  # noqa: S608 - a constant


async def count_server_crashes(chunk: Chunk, numbers: Collection[int]) -> dict[int, int] | None:
    """Counts that the server died while it had these items; returns how often it did of any.

    The counts stay with the chunk, whoever gets it next.  None where the lease was lost.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        counts = await connection.fetchval(
            COUNT, chunk.batch_id, chunk.number, chunk.lease_token, list(map(str, numbers))
        )
    return None if counts is None else crash_counts_from_json(counts)


@asynccontextmanager
async def turn() -> AsyncIterator[None]:
    """Waits until no other process sends a suspect, and keeps them from it during the block.

    Else a suspect that kills the server would bear witness against those of other workers.  Who
    dies in the block gives its turn up.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        # Asked again and again: waiting for it would be cut off as a statement that takes too long.
        while not await connection.fetchval(TRY_LOCK, TURN_LOCK):  # noqa: ASYNC110 - as above
            await asyncio.sleep(random.uniform(*ASK_AGAIN_S))  # noqa: S311 - no secret
        try:
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", TURN_LOCK)
