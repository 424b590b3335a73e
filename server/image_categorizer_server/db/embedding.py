"""Embeddings of stored images, and the codes that find similar ones.

A row is written once, and goes with its image.  Whoever follows the table reads what transactions
wrote that had not ended at the last look: a row with a lower number may become visible later.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

from image_categorizer_server.db.convert import columns_of
from image_categorizer_server.db.database import connected

INSERT = """
INSERT INTO image_embeddings (tenant_id, image_id, model_digest, code, vector)
SELECT $1, n.image_id, n.model_digest, n.code, n.vector
FROM unnest($2::text[], $3::text[], $4::bytea[], $5::bytea[]) AS n (
    image_id, model_digest, code, vector)
WHERE EXISTS (SELECT FROM images i
    WHERE i.tenant_id = $1 AND i.image_id = n.image_id FOR KEY SHARE)
ON CONFLICT DO NOTHING
"""
FIND = """
SELECT vector FROM image_embeddings WHERE tenant_id = $1 AND image_id = $2 AND model_digest = $3
"""
# One snapshot for both: what it does not show is of transactions from `oldest` on.
CODES = """
SELECT t.oldest, t.next, c.number, c.code, c.written_by
FROM (SELECT pg_snapshot_xmin(s)::text::bigint AS oldest, pg_snapshot_xmax(s)::text::bigint AS next
    FROM pg_current_snapshot() AS s) t
LEFT JOIN LATERAL (
    SELECT number, code, written_by FROM image_embeddings
    WHERE tenant_id = $1 AND model_digest = $2 AND (written_by, number) > ($3, $4)
        AND ($5 OR written_by < t.next)
    ORDER BY written_by, number LIMIT $6) c ON true
"""
# An image that is deleted takes its row with it.
VECTORS = """
SELECT number, image_id, vector FROM image_embeddings
WHERE tenant_id = $1 AND model_digest = $2 AND number = ANY($3::bigint[])
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


class NewRow(NamedTuple):
    """The embedding of an image, to be kept."""

    image_id: str
    model_digest: str
    code: bytes
    vector: bytes


async def add(tenant_id: str, new: Sequence[NewRow]) -> None:
    """Adds embeddings of images, but those that are there, or whose images are gone.

    Raises:
        DependencyDown: the database does not answer.
    """
    # In one order, so that transactions do not wait for one another in a circle.
    columns = columns_of(sorted(new), 4)
    async with connected() as connection:
        await connection.execute(INSERT, tenant_id, *columns)


async def find(tenant_id: str, image_id: str, model_digest: str) -> bytes | None:
    """Returns the vector of an image by a model; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        found = await connection.fetchval(FIND, tenant_id, image_id, model_digest)
    return cast("bytes | None", found)


async def read_codes(
    tenant_id: str, model_digest: str, after: tuple[int, int], limit: int, *, later: bool
) -> tuple[Transactions, list[CodeRow]]:
    """Returns codes of a tenant's model, in the order of transactions and numbers.

    Args:
        tenant_id: the tenant.
        model_digest: of the model.
        after: transaction and number of the last row that is passed over.
        limit: maximum number of rows.
        later: whether to return what transactions wrote that have not begun here.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(CODES, tenant_id, model_digest, *after, later, limit)
    found = [tuple(row.values()) for row in rows]
    transactions = Transactions(*found[0][:2])  # type: ignore[arg-type]
    return transactions, [CodeRow(*row[2:]) for row in found if row[2] is not None]  # type: ignore[arg-type]


async def read_vectors(
    tenant_id: str, model_digest: str, numbers: Sequence[int]
) -> list[VectorRow]:
    """Returns the vectors of these numbers, as far as their images are stored.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(VECTORS, tenant_id, model_digest, list(numbers))
    return [VectorRow(*row.values()) for row in rows]  # type: ignore[arg-type]
