"""Results of stored images, as they are written: one statement writes those of many images."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple, cast

from image_categorizer_server.db import embedding, image_term, review
from image_categorizer_server.db.convert import columns_of, options_to_json, predictions_to_json
from image_categorizer_server.db.database import Connection, transaction
from image_categorizer_server.db.image import finish_on
from image_categorizer_server.domain.image import Image, ImageResult

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
    async with transaction() as connection:
        done = await finish_on(connection, tenant_id, [one.image for one in new])
        kept = [one for one in new if one.image.image_id in done]
        embeddings = [one.embedding for one in kept if one.embedding is not None]
        await embedding.add_on(connection, tenant_id, embeddings)
        times = {one.image.image_id: one.image.create_time for one in kept}
        await _add(connection, tenant_id, [one.result for one in kept], times, are_first=True)
    return [one.image.image_id in done for one in new]


async def _add(
    connection: Connection,
    tenant_id: str,
    results: Sequence[ImageResult],
    times: dict[str, datetime],
    *,
    are_first: bool = False,
) -> None:
    """Writes results of images that the transaction has locked.

    Args:
        connection: of the transaction.
        tenant_id: the tenant.
        results: the results.
        times: when the images were stored.
        are_first: whether the images have no terms of results yet.
    """
    if not results:
        return
    await connection.execute(INSERT, tenant_id, *columns_of(map(_values, results)))
    newest = {result.image_id: result for result in results}
    changes = [
        image_term.change_of(tenant_id, times[image_id], result)
        for image_id, result in newest.items()
    ]
    if are_first:
        await image_term.add_terms(connection, changes)
    else:
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
