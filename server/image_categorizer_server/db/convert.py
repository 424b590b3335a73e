"""Domain values ↔ JSON columns and rows of batches."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from image_categorizer_server.domain.batch import (
    Batch,
    BatchConfig,
    BatchItem,
    BatchState,
    ItemError,
    ItemResult,
)
from image_categorizer_server.domain.classification import (
    Category,
    ClassifyOptions,
    ModelRef,
    Prediction,
)

OK = "OK"
TUPLES = ("include_categories", "exclude_categories")
# Time over which a rate is measured, at least; at most twice that while items are finished.
RATE_WINDOW_S = 5.0


def options_to_json(options: ClassifyOptions) -> str:
    """Returns the options as a JSON object; keys are sorted, so equal options give equal text."""
    return json.dumps(asdict(options), sort_keys=True)


def options_from_json(text: str) -> ClassifyOptions:
    """Returns the options that `options_to_json` wrote; of fields unknown now nothing is kept."""
    known = ClassifyOptions.__dataclass_fields__
    values = {name: value for name, value in json.loads(text).items() if name in known}
    return ClassifyOptions(**values | {name: tuple(values.get(name, ())) for name in TUPLES})


def predictions_to_json(predictions: list[Prediction]) -> str:
    """Returns the predictions as a JSON list."""
    return json.dumps(
        [
            {
                "category": p.category.name,
                "confidence": p.confidence,
                "category_id": p.category.category_id,
                "ancestors": p.category.ancestors,
                "box": p.bounding_box,
            }
            for p in predictions
        ],
        allow_nan=False,
    )


def predictions_from_json(text: str) -> tuple[Prediction, ...]:
    """Returns the predictions that `predictions_to_json` wrote."""
    return tuple(
        Prediction(
            Category(p["category"], p["category_id"], tuple(p["ancestors"])),
            p["confidence"],
            _box(p["box"]),
        )
        for p in json.loads(text)
    )


def _box(values: list[int] | None) -> tuple[int, int, int, int] | None:
    if values is None:
        return None
    left, top, right, bottom = values
    return left, top, right, bottom


def batch_from_row(
    row: Mapping[str, Any], failures: tuple[ItemResult, ...], now: datetime
) -> Batch:
    """Returns a row of `batches` as a value, its rate as it is `now`."""
    return Batch(
        batch_id=row["batch_id"],
        tenant_id=row["tenant_id"],
        state=BatchState(row["state"]),
        state_message=row["state_message"],
        item_count=row["item_count"],
        succeeded_count=row["succeeded_count"],
        failed_count=row["failed_count"],
        create_time=row["create_time"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        config=BatchConfig(
            options=options_from_json(row["options"]),
            webhook_url=row["webhook_url"],
            request_id=row["request_id"] or "",
            priority=row["priority"],
        ),
        failures=failures,
        items_per_s=_rate(row, now),
    )


def _rate(row: Mapping[str, Any], now: datetime) -> float:
    if row["state"] != BatchState.RUNNING.value:
        return 0.0
    since, count = row["last_mark_time"], row["last_mark_count"]
    if since is None:
        since, count = row["mark_time"], row["mark_count"]
    elapsed_s = (now - since).total_seconds() if since else 0.0
    done = row["succeeded_count"] + row["failed_count"] - count
    return max(0.0, done / elapsed_s) if elapsed_s > 0 else 0.0


def crash_counts_from_json(text: str) -> dict[int, int]:
    """Returns how often the server died of which item."""
    return {int(number): count for number, count in json.loads(text).items()}


def item_from_row(row: Mapping[str, Any]) -> BatchItem:
    """Returns a row of `batch_items` as a value."""
    return BatchItem(
        number=row["number"],
        filename=row["filename"],
        object_key=row["object_key"],
        image_uri=row["image_uri"],
        size_bytes=row["size_bytes"],
    )


def result_from_row(row: Mapping[str, Any]) -> ItemResult:
    """Returns a row of `batch_results`, with the item's `filename`, as a value."""
    if row["status"] != OK:
        error = ItemError(row["status"], row["reason"], row["message"])
        return ItemResult(row["number"], row["filename"], (), None, error)
    return ItemResult(
        number=row["number"],
        filename=row["filename"],
        predictions=predictions_from_json(row["predictions"]),
        model=ModelRef(row["model_name"], row["model_version"], row["model_digest"]),
        error=None,
    )
