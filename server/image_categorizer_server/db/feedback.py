"""What people say about results.  Rows are appended; to undo one marks it.

A trigger notifies all servers of each change; see `access_changes`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, TypedDict, cast

from image_categorizer_server.db import review
from image_categorizer_server.db.convert import predictions_from_json
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.feedback import Feedback, Judgement
from image_categorizer_server.domain.image import ImageResult

FIND_RESULT = """
SELECT r.* FROM image_results r
JOIN images i ON i.tenant_id = r.tenant_id AND i.image_id = r.image_id
WHERE r.tenant_id = $1 AND r.image_id = $2 AND ($3 = '' OR r.result_id = $3)
    AND i.lease_until IS NULL
ORDER BY r.create_time DESC, r.result_id DESC LIMIT 1
"""
INSERT = """
INSERT INTO feedback (tenant_id, feedback_id, image_id, result_id, judgement, category, create_time,
    reviewer, answered)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
WHERE EXISTS (SELECT FROM images WHERE tenant_id = $1 AND image_id = $3 FOR NO KEY UPDATE)
RETURNING *
"""
NEWEST = """
SELECT * FROM feedback WHERE tenant_id = $1 AND image_id = $2 AND undo_time IS NULL
    AND ($3 = '' OR reviewer = $3)
ORDER BY number DESC LIMIT 1
"""
LIST = """
SELECT * FROM feedback WHERE tenant_id = $1 AND ($2 = '' OR image_id = $2) AND number < $3
ORDER BY number DESC LIMIT $4
"""
UNDO = """
UPDATE feedback SET undo_time = COALESCE(undo_time, $3) WHERE tenant_id = $1 AND feedback_id = $2
RETURNING *
"""
LOCK = "SELECT FROM images WHERE tenant_id = $1 AND image_id = $2 FOR NO KEY UPDATE"
# The newest of each image counts.
EXAMPLES = """
SELECT feedback_id, image_id, category, vector FROM (
    SELECT DISTINCT ON (f.image_id) f.number, f.feedback_id, f.image_id, f.category, e.vector
    FROM feedback f
    JOIN image_embeddings e ON e.tenant_id = f.tenant_id AND e.image_id = f.image_id
    WHERE f.tenant_id = $1 AND e.model_digest = $2 AND f.undo_time IS NULL
    ORDER BY f.image_id, f.number DESC) newest
ORDER BY number DESC LIMIT $3
"""


class FeedbackRow(TypedDict):
    """A row of `feedback`."""

    feedback_id: str
    number: int
    image_id: str
    result_id: str
    judgement: str
    category: str
    create_time: datetime
    undo_time: datetime | None
    reviewer: str
    answered: str


class ExampleRow(NamedTuple):
    """An image of which somebody has said what it shows, with its embedding."""

    feedback_id: str
    image_id: str
    category: str
    vector: bytes


async def find_result(tenant_id: str, image_id: str, result_id: str) -> ImageResult | None:
    """Returns a result of an image, or its newest for an empty id; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(FIND_RESULT, tenant_id, image_id, result_id)
    if row is None:
        return None
    return ImageResult(
        str(row["result_id"]),
        image_id,
        predictions_from_json(str(row["predictions"])),
        ModelRef(
            str(row["model_name"]), cast("int", row["model_version"]), str(row["model_digest"])
        ),
        cast("datetime", row["create_time"]),
    )


async def add(tenant_id: str, feedback: Feedback) -> Feedback | None:
    """Adds feedback, and returns it with its number; None if the image is gone.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        row = await connection.fetchrow(
            INSERT,
            tenant_id,
            feedback.feedback_id,
            feedback.image_id,
            feedback.result_id,
            feedback.judgement.value,
            feedback.category,
            feedback.create_time,
            feedback.reviewer,
            feedback.answered,
        )
        if row is not None:
            await review.follow_feedback(connection, tenant_id, feedback.image_id)
    return _feedback(cast("FeedbackRow", row)) if row else None


async def newest(tenant_id: str, image_id: str, reviewer: str = "") -> Feedback | None:
    """Returns the feedback about an image that counts, or one reviewer's; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(NEWEST, tenant_id, image_id, reviewer)
    return _feedback(cast("FeedbackRow", row)) if row else None


async def list_feedback(tenant_id: str, image_id: str, before: int, limit: int) -> list[Feedback]:
    """Returns feedback before a number, newest first; about one image, or about all.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(LIST, tenant_id, image_id, before, limit)
    return [_feedback(row) for row in cast("Sequence[FeedbackRow]", rows)]


async def undo(tenant_id: str, feedback_id: str, now: datetime) -> Feedback | None:
    """Marks feedback as undone, unless it is, and returns it; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        row = await connection.fetchrow(UNDO, tenant_id, feedback_id, now)
        if row is not None:
            image_id = str(row["image_id"])
            await connection.execute(LOCK, tenant_id, image_id)
            await review.follow_feedback(connection, tenant_id, image_id)
    return _feedback(cast("FeedbackRow", row)) if row else None


async def read_examples(tenant_id: str, model_digest: str, limit: int) -> list[ExampleRow]:
    """Returns the images that feedback is about and a model has seen, those of last first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(EXAMPLES, tenant_id, model_digest, limit)
    return [ExampleRow(*row.values()) for row in rows]  # type: ignore[arg-type]


def _feedback(row: FeedbackRow) -> Feedback:
    return Feedback(
        feedback_id=row["feedback_id"],
        image_id=row["image_id"],
        result_id=row["result_id"],
        judgement=Judgement(row["judgement"]),
        category=row["category"],
        create_time=row["create_time"],
        number=row["number"],
        undo_time=row["undo_time"],
        reviewer=row["reviewer"],
        answered=row["answered"],
    )
