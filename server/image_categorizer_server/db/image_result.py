"""Results of stored images, as they are written: one statement writes those of many images."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple, cast

from image_categorizer_server.db import embedding, image_term, review
from image_categorizer_server.db.convert import columns_of, options_to_json, predictions_to_json
from image_categorizer_server.db.database import Connection, connected, transaction
from image_categorizer_server.domain.image import Image, ImageResult
from image_categorizer_server.domain.review import ReviewState, uncertainty_of

INSERT = """
INSERT INTO image_results (tenant_id, result_id, image_id, predictions, model_name, model_version,
    model_digest, create_time, digests, options, input_sha256, server_version, receipt)
SELECT $1, result_id, image_id, predictions::jsonb, model_name, model_version, model_digest,
    create_time, digests::jsonb, options::jsonb, input_sha256, server_version, receipt
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[],
    $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[]) AS r (
    result_id, image_id, predictions, model_name, model_version, model_digest, create_time, digests,
    options, input_sha256, server_version, receipt)
"""
# Two results of one image replace its terms one after the other.  In one order, so that
# transactions do not wait for one another in a circle.
LOCK = """
SELECT image_id, create_time FROM images
WHERE tenant_id = $1 AND image_id = ANY ($2::text[]) AND lease_until IS NULL
ORDER BY image_id FOR NO KEY UPDATE
"""


# One statement, and so one round trip, for all that becomes visible with images.  Nobody has judged
# them, and they have no terms yet.
FINISH = """
WITH done AS (
    UPDATE images SET lease_until = NULL
    WHERE tenant_id = $1 AND image_id = ANY ($2::text[]) AND lease_until IS NOT NULL
    RETURNING image_id, create_time),
terms AS (
    INSERT INTO image_terms (tenant_id, image_id, term, create_time, confidence)
    SELECT $1, d.image_id, t.term, d.create_time, t.confidence
    FROM done d JOIN unnest($3::text[], $4::text[], $5::real[]) AS t (image_id, term, confidence)
        USING (image_id)),
results AS (
    INSERT INTO image_results (tenant_id, result_id, image_id, predictions, model_name,
        model_version, model_digest, create_time, digests, options, input_sha256, server_version,
        receipt)
    SELECT $1, result_id, d.image_id, predictions::jsonb, model_name, model_version, model_digest,
        r.create_time, digests::jsonb, options::jsonb, input_sha256, server_version, receipt
    FROM done d JOIN unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::int[], $11::text[],
        $12::timestamptz[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[]) AS r (
        result_id, image_id, predictions, model_name, model_version, model_digest, create_time,
        digests, options, input_sha256, server_version, receipt) USING (image_id)),
queue AS (
    INSERT INTO review_queue (tenant_id, image_id, create_time, uncertainty)
    SELECT $1, d.image_id, d.create_time, q.uncertainty
    FROM done d JOIN unnest($18::text[], $19::real[]) AS q (image_id, uncertainty)
        USING (image_id)),
embeddings AS (
    INSERT INTO image_embeddings (tenant_id, image_id, model_digest, code, vector)
    SELECT $1, d.image_id, e.model_digest, e.code, e.vector
    FROM done d JOIN unnest($20::text[], $21::text[], $22::bytea[], $23::bytea[]) AS e (
        image_id, model_digest, code, vector) USING (image_id))
SELECT image_id FROM done
"""


class NewResult(NamedTuple):
    """An image whose object is stored, and what a model found in it: visible at once."""

    image: Image
    result: ImageResult
    embedding: embedding.NewRow | None


async def add_results(tenant_id: str, results: Sequence[ImageResult]) -> list[bool]:
    """Adds results to images; returns False for those whose image is gone.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        ids = list({result.image_id for result in results})
        locked = await connection.fetch(LOCK, tenant_id, ids)
        times = {str(row["image_id"]): cast("datetime", row["create_time"]) for row in locked}
        kept = [result for result in results if result.image_id in times]
        await _add(connection, tenant_id, kept, times)
    return [result.image_id in times for result in results]


async def finish(tenant_id: str, new: Sequence[NewResult]) -> list[bool]:
    """Makes images visible with their first results.

    Returns:
        False for those whose lease has ended: nothing is written of them.

    Raises:
        DependencyDown: the database does not answer.
    """
    ids = [one.image.image_id for one in new]
    terms = [row for one in new for row in _terms(one)]
    queue = [(one.image.image_id, uncertainty_of(one.result.predictions)) for one in new]
    embeddings = [one.embedding for one in new if one.embedding is not None]
    async with connected() as connection:
        rows = await connection.fetch(
            FINISH,
            tenant_id,
            ids,
            *columns_of(terms, 3),
            *columns_of(_values(one.result) for one in new),
            *columns_of(queue),
            *columns_of(embeddings, 4),
        )
    done = {row["image_id"] for row in rows}
    return [image_id in done for image_id in ids]


def _terms(new: NewResult) -> list[tuple[str, str, float | None]]:
    """Returns the terms of an image and of its first result, each with its confidence."""
    image_id, change = (
        new.image.image_id,
        image_term.change_of(new.image.tenant_id, new.image.create_time, new.result),
    )
    own = [*image_term.terms_of(new.image), review.term_of(ReviewState.UNREVIEWED)]
    return [
        *((image_id, term, None) for term in own),
        *((image_id, term, change.confidence) for term in change.terms),
    ]


async def _add(
    connection: Connection,
    tenant_id: str,
    results: Sequence[ImageResult],
    times: dict[str, datetime],
) -> None:
    """Writes results of images that the transaction has locked.

    Args:
        connection: of the transaction.
        tenant_id: the tenant.
        results: the results.
        times: when the images were stored.
    """
    if not results:
        return
    await connection.execute(INSERT, tenant_id, *columns_of(map(_values, results)))
    newest = {result.image_id: result for result in results}
    changes = [
        image_term.change_of(tenant_id, times[image_id], result)
        for image_id, result in newest.items()
    ]
    await image_term.set_terms(connection, changes)
    await review.queue_results(connection, tenant_id, list(newest.values()), times)


def _values(result: ImageResult) -> tuple[object, ...]:
    return (
        result.result_id,
        result.image_id,
        predictions_to_json(result.predictions),
        result.model.name,
        result.model.version,
        result.model.digest,
        result.create_time,
        json.dumps(asdict(result.digests)),
        options_to_json(result.options) if result.options else None,
        result.input_sha256,
        result.server_version,
        result.receipt,
    )
