"""Results with all that their receipts state."""

import json
from datetime import datetime
from typing import TypedDict, cast

from image_categorizer_server.db.convert import options_from_json, predictions_from_json
from image_categorizer_server.db.database import connected
from image_categorizer_server.db.result import Sealing, list_results
from image_categorizer_server.domain.classification import Digests, ModelRef
from image_categorizer_server.domain.image import ImageResult
from image_categorizer_server.errors import BatchNotFound

OF_IMAGE = """
SELECT result_id, image_id, predictions, model_name, model_version, model_digest, create_time,
    digests, options, input_sha256, server_version, receipt
FROM image_results WHERE tenant_id = $1 AND result_id = $2
"""
# The name of the object of an image that was sent is the hash of its bytes.
OF_ITEM = """
SELECT r.create_time, b.options, coalesce(regexp_replace(i.object_key, '^.*/', ''), '') AS sha256
FROM batch_results r
JOIN batch_items i ON i.batch_id = r.batch_id AND i.number = r.number
JOIN batches b ON b.batch_id = r.batch_id
WHERE r.tenant_id = $1 AND r.batch_id = $2 AND r.number = $3
"""


class ResultFacts(TypedDict):
    """The columns of a result."""

    result_id: str
    image_id: str
    predictions: str  # JSON, as are digests and options
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
    tenant_id: str, batch_id: str, number: int, sealing: Sealing | None
) -> ImageResult | None:
    """Returns the result of an item of a batch; None if the tenant has no such result.

    Of such a result no digests are stored, nor which release classified it.

    Args:
        tenant_id: the tenant.
        batch_id: the batch.
        number: the item.
        sealing: decrypts predictions; None for no encryption.

    Raises:
        DependencyDown: the database does not answer.
    """
    try:
        found = await list_results(tenant_id, batch_id, number - 1, 1, sealing)
    except BatchNotFound:
        return None
    if not found or found[0].number != number or found[0].model is None:
        return None
    async with connected() as connection:
        row = await connection.fetchrow(OF_ITEM, tenant_id, batch_id, number)
    if row is None:  # it was deleted meanwhile
        return None
    return ImageResult(
        result_id=f"{batch_id}.{number}",
        image_id="",
        predictions=found[0].predictions,
        model=found[0].model,
        create_time=cast("datetime", row["create_time"]),
        options=options_from_json(cast("str", row["options"])),
        input_sha256=cast("str", row["sha256"]),
    )


def _result(row: ResultFacts) -> ImageResult:
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
