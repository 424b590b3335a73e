"""Categories of tenants, their examples, and the heads that were fitted to them.

Triggers notify all servers of each change (see `access_changes`), and remove a head together with
the first image that it was fitted to.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, cast

from image_categorizer_server.db import audit
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.category import HeadTrial, OwnCategory
from image_categorizer_server.errors import (
    CategoryExists,
    CategoryNotFound,
    FailedPrecondition,
    ImageNotFound,
)

MAX_IMAGE_IDS = 1000
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('categories ' || $1, 0))"
COUNT = "SELECT count(*) FROM categories WHERE tenant_id = $1"
COUNT_EXAMPLES = "SELECT count(*) FROM category_examples WHERE tenant_id = $1"
INSERT = """
INSERT INTO categories (tenant_id, category, create_time) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING true
"""
EXISTS = "SELECT true FROM categories WHERE tenant_id = $1 AND category = $2"
NAMES = "SELECT category FROM categories WHERE tenant_id = $1"
IMAGES = """
SELECT image_id FROM images WHERE tenant_id = $1 AND image_id = ANY($2::text[]) FOR KEY SHARE
"""
# An image is an example of one category: of that which was named last.
ADD = """
INSERT INTO category_examples (tenant_id, image_id, category, create_time)
SELECT $1, image_id, $2, $4 FROM unnest($3::text[]) AS image_id ORDER BY image_id
ON CONFLICT (tenant_id, image_id) DO UPDATE SET category = excluded.category
"""
REMOVE = """
DELETE FROM category_examples WHERE tenant_id = $1 AND category = $2 AND image_id = $3
RETURNING true
"""
DELETE = "DELETE FROM categories WHERE tenant_id = $1 AND category = $2 RETURNING true"
SELECT = """
SELECT c.category, c.create_time, (SELECT count(*) FROM category_examples e
    WHERE e.tenant_id = c.tenant_id AND e.category = c.category) AS example_count
FROM categories c WHERE c.tenant_id = $1
"""
GET = SELECT + " AND c.category = $2"
LIST = SELECT + " AND c.category > $2 ORDER BY c.category LIMIT $3"
IMAGE_IDS = """
SELECT image_id FROM category_examples WHERE tenant_id = $1 AND category = $2
ORDER BY number DESC LIMIT $3
"""
# The newest feedback about an image counts before what it is an example of.  Feedback that names
# one of the model's categories says that the image shows none of the tenant's.
EXAMPLES = """
SELECT n.image_id, n.category, o.category IS NOT NULL AS is_own, e.vector, n.answered FROM (
    SELECT DISTINCT ON (image_id) image_id, category, answered FROM (
        SELECT image_id, category, '' AS answered, 0 AS source, number FROM category_examples
        WHERE tenant_id = $1
        UNION ALL
        SELECT image_id, category, answered, 1, number FROM feedback
        WHERE tenant_id = $1 AND undo_time IS NULL) every
    ORDER BY image_id, source DESC, number DESC) n
JOIN image_embeddings e
    ON e.tenant_id = $1 AND e.image_id = n.image_id AND e.model_digest = $2
LEFT JOIN categories o ON o.tenant_id = $1 AND o.category = n.category
WHERE EXISTS (SELECT FROM categories WHERE tenant_id = $1)
ORDER BY n.image_id LIMIT $3
"""
UNSEEN = """
SELECT x.image_id FROM category_examples x
WHERE x.tenant_id = $1 AND NOT EXISTS (SELECT FROM image_embeddings e
    WHERE e.tenant_id = $1 AND e.image_id = x.image_id AND e.model_digest = $2)
ORDER BY x.number LIMIT $3
"""
HEADS = """
(SELECT * FROM category_heads WHERE tenant_id = $1 AND model_digest = $2
    ORDER BY number DESC LIMIT 1)
UNION
(SELECT * FROM category_heads WHERE tenant_id = $1 AND model_digest = $2 AND refusal = ''
    ORDER BY number DESC LIMIT 1)
ORDER BY number DESC
"""
LOCK_EXAMPLES = """
SELECT image_id FROM category_examples WHERE tenant_id = $1 AND image_id = ANY($2::text[])
FOR KEY SHARE
"""
LOCK_FEEDBACK = """
SELECT DISTINCT image_id FROM (SELECT image_id FROM feedback
    WHERE tenant_id = $1 AND image_id = ANY($2::text[]) FOR KEY SHARE) locked
"""
ADD_HEAD = """
INSERT INTO category_heads (tenant_id, model_digest, number, revision, categories, image_ids,
    labels, weights, total_count, right_count, baseline_right_count, refusal, create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT DO NOTHING RETURNING true
"""
# What is neither the last nor the one that decides tells nobody anything.
REMOVE_OLD = """
DELETE FROM category_heads h WHERE tenant_id = $1 AND model_digest = $2 AND number < $3
    AND (refusal <> '' OR EXISTS (SELECT FROM category_heads l WHERE l.tenant_id = $1
        AND l.model_digest = $2 AND l.number > h.number AND l.refusal = ''))
"""


class ExampleRow(NamedTuple):
    """An image of which somebody has said what it shows, with its embedding."""

    image_id: str
    category: str
    is_own: bool
    """Whether the category is one of the tenant's."""
    vector: bytes
    answered: str = ""
    """What was answered, of feedback; empty for what somebody taught."""


class HeadRow(NamedTuple):
    """A head that was tried."""

    number: int
    revision: str
    categories: tuple[str, ...]
    image_ids: tuple[str, ...]
    """Of the examples that it was fitted to."""
    labels: tuple[str, ...]
    """What they show, in the order of `image_ids`; empty for none of the categories."""
    weights: bytes
    """float32 (K, D + 1), little-endian: the bias comes last.  Empty if it was not promoted."""
    trial: HeadTrial


class Most(NamedTuple):
    """How much a tenant may have."""

    categories: int
    examples: int


async def create(
    tenant_id: str, category: str, image_ids: Sequence[str], now: datetime, most: Most
) -> None:
    """Creates a category with examples.

    Raises:
        CategoryExists: the tenant has a category of this name.
        ImageNotFound: an image is not stored.
        FailedPrecondition: the tenant has as many as it may have.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await connection.execute(LOCK, tenant_id)
        if not await connection.fetchval(INSERT, tenant_id, category, now):
            raise CategoryExists("the tenant has a category of this name")
        if cast("int", await connection.fetchval(COUNT, tenant_id)) > most.categories:
            raise FailedPrecondition(f"a tenant may have {most.categories} categories of its own")
        await _add(connection, tenant_id, category, image_ids, now)
        await _check_count(connection, tenant_id, most)
        await audit.record_event(
            connection,
            tenant_id,
            AuditAction.CATEGORY_CREATE,
            "",
            now,
            example_count=len(set(image_ids)),
        )


async def add(
    tenant_id: str, category: str, image_ids: Sequence[str], now: datetime, most: Most
) -> None:
    """Adds examples to a category.

    Raises:
        CategoryNotFound: the tenant has no such category.
        ImageNotFound: an image is not stored.
        FailedPrecondition: the tenant has as many examples as it may have.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await connection.execute(LOCK, tenant_id)
        if not await connection.fetchval(EXISTS, tenant_id, category):
            raise CategoryNotFound("the tenant has no such category")
        await _add(connection, tenant_id, category, image_ids, now)
        await _check_count(connection, tenant_id, most)


async def _add(
    connection: Connection,
    tenant_id: str,
    category: str,
    image_ids: Sequence[str],
    now: datetime,
) -> None:
    wanted = sorted(set(image_ids))
    found = await connection.fetch(IMAGES, tenant_id, wanted)
    if len(found) < len(wanted):
        raise ImageNotFound("no such image: an example is not stored, or was deleted meanwhile")
    await connection.execute(ADD, tenant_id, category, wanted, now)


async def _check_count(connection: Connection, tenant_id: str, most: Most) -> None:
    if cast("int", await connection.fetchval(COUNT_EXAMPLES, tenant_id)) > most.examples:
        raise FailedPrecondition(f"a tenant may have {most.examples} examples")


async def exists(tenant_id: str, category: str) -> bool:
    """Returns whether the tenant has a category.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(EXISTS, tenant_id, category))


async def names(tenant_id: str) -> frozenset[str]:
    """Returns the names of all categories of a tenant.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(NAMES, tenant_id)
    return frozenset(str(row["category"]) for row in rows)


async def get(tenant_id: str, category: str) -> OwnCategory | None:
    """Returns a category with its newest examples; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(GET, tenant_id, category)
        found = await connection.fetch(IMAGE_IDS, tenant_id, category, MAX_IMAGE_IDS)
    return _category(row, tuple(str(one["image_id"]) for one in found)) if row else None


async def list_categories(tenant_id: str, after: str, limit: int) -> list[OwnCategory]:
    """Returns categories after a name, by name.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LIST, tenant_id, after, limit)
    return [_category(row) for row in rows]


async def remove_example(tenant_id: str, category: str, image_id: str) -> bool:
    """Removes an example; returns False if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(REMOVE, tenant_id, category, image_id))


async def delete(tenant_id: str, category: str, now: datetime) -> bool:
    """Deletes a category with its examples; returns False if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await connection.execute(LOCK, tenant_id)
        if not await connection.fetchval(DELETE, tenant_id, category):
            return False
        await audit.record_event(connection, tenant_id, AuditAction.CATEGORY_DELETE, "", now)
    return True


async def read_examples(tenant_id: str, model_digest: str, limit: int) -> list[ExampleRow]:
    """Returns the examples that a model has seen, by image; none without a category.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(EXAMPLES, tenant_id, model_digest, limit)
    return [ExampleRow(*row.values()) for row in rows]  # type: ignore[arg-type]


async def unseen(tenant_id: str, model_digest: str, limit: int) -> list[str]:
    """Returns images of examples that a model has not seen.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(UNSEEN, tenant_id, model_digest, limit)
    return [str(row["image_id"]) for row in rows]


async def read_heads(tenant_id: str, model_digest: str) -> list[HeadRow]:
    """Returns the head that was tried last, and the one promoted last, if these are two.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(HEADS, tenant_id, model_digest)
    return [
        HeadRow(
            cast("int", row["number"]),
            str(row["revision"]),
            tuple(cast("list[str]", row["categories"])),
            tuple(cast("list[str]", row["image_ids"])),
            tuple(cast("list[str]", row["labels"])),
            cast("bytes", row["weights"]),
            HeadTrial(
                cast("datetime", row["create_time"]),
                cast("int", row["total_count"]),
                cast("int", row["right_count"]),
                cast("int", row["baseline_right_count"]),
                str(row["refusal"]),
            ),
        )
        for row in rows
    ]


async def add_head(tenant_id: str, model_digest: str, head: HeadRow) -> bool:
    """Adds a head that was tried, unless one of its images is no example any more.

    Returns:
        False if it was not added: also if another server has added one meanwhile.

    Raises:
        DependencyDown: the database does not answer.
    """
    trial = head.trial
    async with transaction() as connection:
        wanted = list(head.image_ids)
        locked = [
            str(row["image_id"])
            for query in (LOCK_EXAMPLES, LOCK_FEEDBACK)
            for row in await connection.fetch(query, tenant_id, wanted)
        ]
        if not set(wanted) <= set(locked):
            return False
        added = await connection.fetchval(
            ADD_HEAD,
            tenant_id,
            model_digest,
            head.number,
            head.revision,
            list(head.categories),
            wanted,
            list(head.labels),
            head.weights,
            trial.total_count,
            trial.right_count,
            trial.baseline_right_count,
            trial.refusal,
            trial.create_time,
        )
        if added:
            await connection.execute(REMOVE_OLD, tenant_id, model_digest, head.number)
        if added and not trial.refusal:
            await audit.record_event(
                connection,
                tenant_id,
                AuditAction.CATEGORY_HEAD_PROMOTED,
                model_digest,
                trial.create_time,
                total_count=trial.total_count,
                right_count=trial.right_count,
                baseline_right_count=trial.baseline_right_count,
            )
    return bool(added)


def _category(row: object, image_ids: tuple[str, ...] = ()) -> OwnCategory:
    found = cast("dict[str, object]", row)
    return OwnCategory(
        str(found["category"]),
        cast("int", found["example_count"]),
        cast("datetime", found["create_time"]),
        image_ids,
    )
