"""Results with all that their receipts state."""

import json
from datetime import datetime
from typing import TypedDict, cast

from image_categorizer_server.db.convert import options_from_json, predictions_from_json
from image_categorizer_server.db.database import connected
from image_categorizer_server.db.sealed import Sealing, key_of, opened
from image_categorizer_server.domain.classification import Digests, ModelRef
from image_categorizer_server.domain.image import ImageResult

OF_IMAGE = """
SELECT result_id, image_id, predictions, model_name, model_version, model_digest, create_time,
    digests, options, input_sha256, server_version, receipt
FROM image_results WHERE tenant_id = $1 AND result_id = $2
"""
# The name of the object of an image that was sent is the hash of its bytes.
OF_ITEM = """
SELECT r.batch_id || '.' || r.number AS result_id, '' AS image_id, r.predictions, r.sealed,
    r.model_name, r.model_version, r.model_digest, r.create_time, '{}' AS digests, b.options,
    coalesce(regexp_replace(i.object_key, '^.*/', ''), '') AS input_sha256, '' AS server_version,
    '' AS receipt
FROM batch_results r
JOIN batch_items i ON i.batch_id = r.batch_id AND i.number = r.number
JOIN batches b ON b.batch_id = r.batch_id
WHERE r.tenant_id = $1 AND r.batch_id = $2 AND r.number = $3 AND r.status = 'OK'
"""


class ResultFacts(TypedDict):
    """The columns of a result, without `sealed`."""

    result_id: str
    image_id: str
    predictions: str | None  # JSON, as are digests and options
    model_name: str
    model_version: int
    model_digest: str
    create_time: datetime
    digests: str
    options: str | None
    input_sha256: str
    server_version: str
    receipt: str


async def find_result(tenant_id: str, result_id: str) -> ImageResult | None:
    """Returns a result of a stored image; None if the tenant has no such result.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(OF_IMAGE, tenant_id, result_id)
    return _result(cast("ResultFacts", row)) if row else None


async def find_item_result(
    tenant_id: str, batch_id: str, number: int, sealing: Sealing
) -> ImageResult | None:
    """Returns the result of an item of a batch; None if the tenant has no such result.

    Of such a result no digests are stored, nor which release classified it.

    Raises:
        ResultErased: the predictions are encrypted, and their key is gone.
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(OF_ITEM, tenant_id, batch_id, number)
    if row is None:
        return None
    facts = cast("ResultFacts", row)
    if (sealed := cast("bytes | None", row["sealed"])) is not None:
        text = await opened(key_of(tenant_id, batch_id, number), sealed, sealing)
        facts = cast("ResultFacts", {**row, "predictions": text})
    return _result(facts)


def _result(row: ResultFacts) -> ImageResult:
    assert row["predictions"] is not None
    return ImageResult(
        result_id=row["result_id"],
        image_id=row["image_id"],
        predictions=predictions_from_json(row["predictions"]),
        model=ModelRef(row["model_name"], row["model_version"], row["model_digest"]),
        create_time=row["create_time"],
        digests=Digests(**json.loads(row["digests"])),
        options=options_from_json(row["options"]) if row["options"] else None,
        input_sha256=row["input_sha256"],
        server_version=row["server_version"],
        receipt=row["receipt"],
    )
