"""Embeddings of stored images, and the codes that find similar ones.

A row is written once, and goes with its image.  Whoever follows the table reads what transactions
wrote that had not ended at the last look: a row with a lower number may become visible later.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

from image_categorizer_server.db.database import connected

INSERT = """
INSERT INTO image_embeddings (tenant_id, image_id, model_digest, code, vector)
SELECT $1, $2, $3, $4, $5
WHERE EXISTS (SELECT FROM images WHERE tenant_id = $1 AND image_id = $2 FOR KEY SHARE)
ON CONFLICT DO NOTHING
"""
FIND = """
SELECT vector FROM image_embeddings WHERE tenant_id = $1 AND image_id = $2 AND model_digest = $3
"""
TRANSACTIONS = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next
"""
CODES = """
SELECT number, code, written_by FROM image_embeddings
WHERE tenant_id = $1 AND model_digest = $2 AND (written_by, number) > ($3, $4) AND written_by < $5
ORDER BY written_by, number LIMIT $6
"""
VECTORS = """
SELECT e.number, e.image_id, e.vector
FROM image_embeddings e JOIN images i ON i.tenant_id = e.tenant_id AND i.image_id = e.image_id
WHERE e.tenant_id = $1 AND e.model_digest = $2 AND e.number = ANY($3::bigint[])
    AND i.lease_until IS NULL
"""


class Transactions(NamedTuple):
    """Which transactions have not ended."""

    oldest: int
    """The first of them: what it and later ones write may become visible."""
    next: int
    """The first that has not begun.  A restore may bring rows of later ones."""


class CodeRow(NamedTuple):
    """A row without its vector."""

    number: int
    code: bytes
    written_by: int


class VectorRow(NamedTuple):
    """A row without its code."""

    number: int
    image_id: str
    vector: bytes


async def add(tenant_id: str, image_id: str, model_digest: str, code: bytes, vector: bytes) -> None:
    """Adds the embedding of an image, unless it is there or the image is gone.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await connection.execute(INSERT, tenant_id, image_id, model_digest, code, vector)


async def find(tenant_id: str, image_id: str, model_digest: str) -> bytes | None:
    """Returns the vector of an image by a model; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        found = await connection.fetchval(FIND, tenant_id, image_id, model_digest)
    return cast("bytes | None", found)


async def transactions() -> Transactions:
    """Returns which transactions have not ended.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(TRANSACTIONS)
    assert row is not None, "every database has transactions"
    return Transactions(*row.values())  # type: ignore[arg-type]


async def read_codes(
    tenant_id: str, model_digest: str, after: tuple[int, int], before: int, limit: int
) -> list[CodeRow]:
    """Returns codes of a tenant's model, in the order of transactions and numbers.

    Args:
        tenant_id: the tenant.
        model_digest: of the model.
        after: transaction and number of the last row that is passed over.
        before: the first transaction that is passed over.
        limit: maximum number of rows.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(CODES, tenant_id, model_digest, *after, before, limit)
    return [CodeRow(*row.values()) for row in rows]  # type: ignore[arg-type]


async def read_vectors(
    tenant_id: str, model_digest: str, numbers: Sequence[int]
) -> list[VectorRow]:
    """Returns the vectors of these numbers whose images are still stored.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(VECTORS, tenant_id, model_digest, list(numbers))
    return [VectorRow(*row.values()) for row in rows]  # type: ignore[arg-type]
