"""The queue of images with a result that nobody has judged, and the states of reviews.

Both follow from the results and the feedback of an image, and are written in the transaction that
changes these, which has locked the image.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from image_categorizer_server.db import image_term
from image_categorizer_server.db.convert import columns_of, predictions_from_json
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.domain.feedback import Judgement
from image_categorizer_server.domain.image import ImageResult
from image_categorizer_server.domain.review import (
    STATES,
    QueuedImage,
    ReviewFilter,
    ReviewOrder,
    ReviewState,
    Vote,
    uncertainty_of,
)

# An image that somebody has judged stays out of the queue, also with a new result.
ADD = """
WITH added AS (
    INSERT INTO review_queue (tenant_id, image_id, create_time, uncertainty)
    SELECT $1, n.image_id, n.create_time, n.uncertainty
    FROM unnest($2::text[], $3::timestamptz[], $4::real[]) AS n (image_id, create_time, uncertainty)
    WHERE NOT EXISTS (SELECT FROM feedback f
        WHERE f.tenant_id = $1 AND f.image_id = n.image_id AND f.undo_time IS NULL)
    ON CONFLICT (tenant_id, image_id) DO UPDATE SET uncertainty = excluded.uncertainty,
        disagreement = NULL, skip_time = NULL
    RETURNING tenant_id, image_id, create_time)
INSERT INTO image_terms (tenant_id, image_id, term, create_time)
SELECT tenant_id, image_id, $5, create_time FROM added ON CONFLICT DO NOTHING
"""
REMOVE = "DELETE FROM review_queue WHERE tenant_id = $1 AND image_id = $2"
STATE = """
SELECT i.create_time, f.judgement, r.predictions
FROM images i
LEFT JOIN LATERAL (SELECT judgement FROM feedback
    WHERE tenant_id = $1 AND image_id = $2 AND undo_time IS NULL
    ORDER BY number DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT predictions FROM image_results
    WHERE tenant_id = $1 AND image_id = $2
    ORDER BY create_time DESC, result_id DESC LIMIT 1) r ON true
WHERE i.tenant_id = $1 AND i.image_id = $2
"""
SKIP = """
UPDATE review_queue SET skip_time = coalesce(skip_time, $3) WHERE tenant_id = $1 AND image_id = $2
RETURNING image_id, uncertainty, disagreement, skip_time
"""
# Most uncertain first: they are looked at first.
UNCOMPARED = """
SELECT q.image_id FROM review_queue q
WHERE q.tenant_id = $1 AND q.skip_time IS NULL AND q.disagreement IS NULL
ORDER BY q.uncertainty DESC, q.image_id DESC LIMIT $2
"""
# Not if the image has a new result meanwhile: that one is not compared.
SET_DISAGREEMENT = """
UPDATE review_queue q SET disagreement = $4 WHERE q.tenant_id = $1 AND q.image_id = $2
    AND $3 = (SELECT r.result_id FROM image_results r WHERE r.tenant_id = $1 AND r.image_id = $2
        ORDER BY r.create_time DESC, r.result_id DESC LIMIT 1)
"""
LABELS = """
SELECT DISTINCT ON (image_id) image_id, category FROM feedback
WHERE tenant_id = $1 AND image_id = ANY ($2::text[]) AND undo_time IS NULL
ORDER BY image_id, number DESC
"""
VOTES = """
WITH shared AS (
    SELECT f.result_id FROM feedback f
    JOIN image_results r ON r.tenant_id = f.tenant_id AND r.result_id = f.result_id
    WHERE f.tenant_id = $1 AND f.undo_time IS NULL AND f.reviewer <> ''
        AND ($2 = '' OR r.model_name = $2)
        AND f.create_time >= coalesce($3::timestamptz, '-infinity')
        AND f.create_time < coalesce($4::timestamptz, 'infinity')
    GROUP BY f.result_id HAVING count(DISTINCT f.reviewer) > 1
    ORDER BY max(f.number) DESC LIMIT $5)
SELECT DISTINCT ON (f.result_id, f.reviewer) f.result_id, f.reviewer, f.category
FROM feedback f JOIN shared s ON s.result_id = f.result_id
WHERE f.tenant_id = $1 AND f.undo_time IS NULL AND f.reviewer <> ''
    AND f.create_time >= coalesce($3::timestamptz, '-infinity')
    AND f.create_time < coalesce($4::timestamptz, 'infinity')
ORDER BY f.result_id, f.reviewer, f.number DESC
"""
# A plan for any terms would begin with the first one; the rarest is the best.  A page is few rows,
# which loops find in indexes; hash and merge joins read the whole queue.
PLAN_FOR_A_PAGE = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('max_parallel_workers_per_gather', '0', true)
"""


# One of a hundred images, or more, has the term: a page is near, and the index of the queue is read
# until it is full.  Each image is looked up in a hash of those with the term, where a loop would
# look into another index.  With fewer images that index is read first, with more the loop is short.
SPREAD = """
SELECT n.count <= $3 AND n.count * 100 >= c.reltuples AS is_spread
FROM (SELECT count(*) FROM (SELECT FROM image_terms WHERE tenant_id = $1 AND term = $2
    LIMIT $3 + 1) t) n, pg_class c WHERE c.oid = 'review_queue'::regclass
"""
MAX_HASHED = 5_000


async def queue_results(
    connection: Connection,
    tenant_id: str,
    results: Sequence[ImageResult],
    times: dict[str, datetime],
) -> None:
    """Puts images with a new result into the queue, unless somebody has judged them.

    Args:
        connection: of a transaction that has locked the images.
        tenant_id: the tenant.
        results: the newest of each image.
        times: when the images were stored.
    """
    term = term_of(ReviewState.UNREVIEWED)
    values = [(r.image_id, times[r.image_id], uncertainty_of(r.predictions)) for r in results]
    await connection.execute(ADD, tenant_id, *columns_of(values, 3), term)


async def follow_feedback(connection: Connection, tenant_id: str, image_id: str) -> None:
    """Makes queue and state of an image follow its feedback.

    Args:
        connection: of a transaction that has locked the image and changed its feedback.
        tenant_id: the tenant.
        image_id: the image.
    """
    row = await connection.fetchrow(STATE, tenant_id, image_id)
    if row is None:
        return
    create_time = cast("datetime", row["create_time"])
    terms: list[str] = []
    if row["judgement"]:
        states = ReviewState.REVIEWED, STATES[Judgement(str(row["judgement"]))]
        terms = list(map(term_of, states))
        await connection.execute(REMOVE, tenant_id, image_id)
    kinds = [image_term.REVIEW]
    change = image_term.TermChange(tenant_id, image_id, create_time, kinds, terms)
    await image_term.set_terms(connection, [change])
    if not row["judgement"] and row["predictions"] is not None:
        uncertainty = uncertainty_of(predictions_from_json(str(row["predictions"])))
        term = term_of(ReviewState.UNREVIEWED)
        await connection.execute(ADD, tenant_id, [image_id], [create_time], [uncertainty], term)


def term_of(state: ReviewState) -> str:
    """Returns the term of the images in a state."""
    return f"{image_term.REVIEW}:{state.value}"


async def list_queue(
    tenant_id: str, wanted: ReviewFilter, before: tuple[float, str], limit: int
) -> list[QueuedImage]:
    """Returns places in the queue after a position.

    Args:
        tenant_id: the tenant.
        wanted: which ones, and in which order.
        before: the uncertainty, or disagreement, and the id of the image of the last one.
        limit: the maximum number.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        query, values = await page_query(connection, tenant_id, wanted)
        rows = await connection.fetch(query, tenant_id, *before, limit, *values)
    return [QueuedImage(*row.values()) for row in rows]  # type: ignore[arg-type]


async def page_query(
    connection: Connection, tenant_id: str, wanted: ReviewFilter
) -> tuple[str, list[str | datetime]]:
    """Returns the fastest query of a page, and its values after the four that all have.

    Args:
        connection: of a transaction, which plans as a page needs it from now on.
        tenant_id: the tenant.
        wanted: which images, and in which order.
    """
    await connection.execute(PLAN_FOR_A_PAGE)
    query, values = queue_query(wanted)
    if wanted.has_one_term and await connection.fetchval(SPREAD, tenant_id, values[0], MAX_HASHED):
        return spread_query(wanted), values
    return query, values


def queue_query(wanted: ReviewFilter) -> tuple[str, list[str | datetime]]:
    """Returns the query of a page, and its values after the four that all have."""
    values: list[str | datetime] = []
    joins, conditions = [], []
    kinds = (image_term.CATEGORY, wanted.category), (image_term.MODEL, wanted.model)
    for kind, name in kinds:
        if name:
            values.append(f"{kind}:{name}")
            t = f"t{len(values)}"
            joins.append(
                f"JOIN image_terms {t} ON {t}.tenant_id = $1 AND {t}.image_id = q.image_id"
                f" AND {t}.term = ${len(values) + 4}"
            )
    for operator, moment in ((">=", wanted.start_time), ("<", wanted.end_time)):
        if moment is not None:
            values.append(moment)
            conditions.append(f"AND q.create_time {operator} ${len(values) + 4}")
    by = wanted.order.value.lower()
    if wanted.order is ReviewOrder.DISAGREEMENT:
        conditions.append("AND q.disagreement IS NOT NULL")
    return (
        f"""
        SELECT q.image_id, q.uncertainty, q.disagreement, q.skip_time FROM review_queue q
        {" ".join(joins)}
        WHERE q.tenant_id = $1 AND (q.{by}, q.image_id) < ($2::real, $3)
            AND q.skip_time IS {"NOT " if wanted.skipped else ""}NULL {" ".join(conditions)}
        ORDER BY q.{by} DESC, q.image_id DESC LIMIT $4
        """,  # noqa: S608 - of names in this file, and numbers
        values,
    )


def spread_query(wanted: ReviewFilter) -> str:
    """Returns the query of a page of images with one term, of which the queue has many.

    Its values are those of `queue_query`.  CASE keeps the subquery from becoming a join.
    """
    by = wanted.order.value.lower()
    is_known = "AND disagreement IS NOT NULL" if wanted.order is ReviewOrder.DISAGREEMENT else ""
    return f"""
        SELECT q.image_id, q.uncertainty, q.disagreement, q.skip_time FROM (
            SELECT {by}, image_id FROM review_queue
            WHERE tenant_id = $1 AND ({by}, image_id) < ($2::real, $3) AND skip_time IS NULL
                {is_known} AND CASE WHEN image_id IN (
                    SELECT image_id FROM image_terms WHERE tenant_id = $1 AND term = $5) THEN true
                    END
            ORDER BY {by} DESC, image_id DESC LIMIT $4) p
        JOIN review_queue q ON q.tenant_id = $1 AND q.image_id = p.image_id
        ORDER BY p.{by} DESC, p.image_id DESC
    """  # noqa: S608 - of names in this file


async def skip(tenant_id: str, image_id: str, now: datetime) -> QueuedImage | None:
    """Puts an image aside, unless it is, and returns its place; None if it is not in the queue.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(SKIP, tenant_id, image_id, now)
    return QueuedImage(*row.values()) if row else None  # type: ignore[arg-type]


async def list_uncompared(tenant_id: str, limit: int) -> list[str]:
    """Returns images in the queue that were not compared with their neighbours.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(UNCOMPARED, tenant_id, limit)
    return [str(row["image_id"]) for row in rows]


async def set_disagreements(tenant_id: str, found: Sequence[tuple[ImageResult, float]]) -> None:
    """Notes how far neighbours disagree with results, if they are still the newest.

    Raises:
        DependencyDown: the database does not answer.
    """
    values = [(tenant_id, r.image_id, r.result_id, share) for r, share in found]
    async with connected() as connection:
        await connection.executemany(SET_DISAGREEMENT, values)


async def find_labels(tenant_id: str, image_ids: Sequence[str]) -> dict[str, str]:
    """Returns what images show according to people; those are missing that nobody has judged.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LABELS, tenant_id, list(image_ids))
    return {str(row["image_id"]): str(row["category"]) for row in rows}


async def list_votes(
    tenant_id: str,
    model: str,
    start_time: datetime | None,
    end_time: datetime | None,
    limit: int,
) -> list[Vote]:
    """Returns what reviewers say about the results that two or more have judged, those of last.

    Args:
        tenant_id: the tenant.
        model: of the results; empty for all.
        start_time: of the judgements, at the earliest.
        end_time: before when they are.
        limit: how many results.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(VOTES, tenant_id, model, start_time, end_time, limit)
    return [Vote(*row.values()) for row in rows]  # type: ignore[arg-type]
