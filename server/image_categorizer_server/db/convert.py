"""Conversions between domain values and the JSON columns and rows of batches."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from image_categorizer_server.db.tables import BatchRow, ItemRow, ResultRow
from image_categorizer_server.domain.batch import (
    Batch,
    BatchConfig,
    BatchItem,
    BatchState,
    ItemError,
    ItemResult,
)
from image_categorizer_server.domain.classification import (
    Box,
    Category,
    ClassifyOptions,
    ImageWarning,
    ModelRef,
    Prediction,
    Source,
)

OK = "OK"
# A rate is measured over at least this time, and at most twice this time while items are finished.
RATE_WINDOW_S = 5.0


def options_to_json(options: ClassifyOptions) -> str:
    """Returns the options as a JSON object; equal options give equal text."""
    return json.dumps(asdict(options), sort_keys=True)


def options_from_json(text: str) -> ClassifyOptions:
    """Returns the options that `options_to_json` wrote, in this or in another release.

    A field that is absent has its default, and a field that is unknown here is ignored.
    """
    stored = json.loads(text)
    values = {
        field.name: stored[field.name] for field in fields(ClassifyOptions) if field.name in stored
    }
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return ClassifyOptions(**values)


def predictions_to_json(predictions: Sequence[Prediction]) -> str:
    """Returns the predictions as a JSON list."""
    return json.dumps(list(map(_prediction_fields, predictions)), allow_nan=False)


def _prediction_fields(value: Prediction) -> dict[str, object]:
    fields: dict[str, object] = {
        "category": value.category.name,
        "confidence": value.confidence,
        "category_id": value.category.category_id,
        "ancestors": value.category.ancestors,
        "boxes": value.bounding_boxes,
    }
    if value.raw_confidence is not None:
        fields["raw_confidence"] = value.raw_confidence
    if value.source is not Source.MODEL:
        fields["source"] = value.source.value
    return fields


def predictions_from_json(text: str) -> tuple[Prediction, ...]:
    """Returns the predictions that `predictions_to_json` wrote, also in an earlier release."""
    return tuple(
        Prediction(
            Category(p["category"], p["category_id"], tuple(p["ancestors"])),
            p["confidence"],
            _boxes(p),
            p.get("raw_confidence"),
            Source(p.get("source", Source.MODEL)),
        )
        for p in json.loads(text)
    )


def _boxes(stored: dict[str, Any]) -> tuple[Box, ...]:
    """Returns the boxes of a prediction; rows of earlier commits have `box`, with one or null."""
    found = stored["boxes"] if "boxes" in stored else [stored["box"]] if stored["box"] else []
    return tuple(Box(*edges) for edges in found)


def columns_of(rows: Iterable[Sequence[object]], count: int = 0) -> list[list[object]]:
    """Returns the columns of rows, as `unnest` takes them; `count` empty ones of no row."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def batch_from_row(row: BatchRow, failures: tuple[ItemResult, ...], now: datetime) -> Batch:
    """Returns a row of `batches` as a value, with its rate at `now`."""
    return Batch(
        batch_id=row["batch_id"],
        tenant_id=row["tenant_id"],
        state=BatchState(row["state"]),
        state_message=row["state_message"],
        item_count=row["item_count"],
        succeeded_count=row["succeeded_count"],
        failed_count=row["failed_count"],
        ignored_count=row["ignored_count"],
        create_time=row["create_time"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        config=BatchConfig(
            options=options_from_json(row["options"]),
            webhook_url=row["webhook_url"],
            request_id=row["request_id"] or "",
            priority=row["priority"],
            subject_key=row["subject_key"],
        ),
        failures=failures,
        items_per_s=rate_of(row, now),
    )


def rate_of(row: BatchRow, now: datetime) -> float:
    """Returns how many items of a batch are finished in a second, 0 unless it runs."""
    if row["state"] != BatchState.RUNNING.value:
        return 0.0
    since, count = row["last_mark_time"], row["last_mark_count"]
    if since is None:
        since, count = row["mark_time"], row["mark_count"]
    elapsed_s = (now - since).total_seconds() if since else 0.0
    done = row["succeeded_count"] + row["failed_count"] - count
    return max(0.0, done / elapsed_s) if elapsed_s > 0 else 0.0


def crash_counts_from_json(text: str) -> dict[int, int]:
    """Returns how often the server crashed while it had an item, by the item's number."""
    return {int(number): count for number, count in json.loads(text).items()}


def item_from_row(row: ItemRow) -> BatchItem:
    """Returns a row of `batch_items` as a value."""
    return BatchItem(
        number=row["number"],
        filename=row["filename"],
        object_key=row["object_key"],
        image_uri=row["image_uri"],
        size_bytes=row["size_bytes"],
        blur=tuple(row["blur"]),
    )


def result_from_row(row: ResultRow, opened: tuple[Prediction, ...] | None = None) -> ItemResult:
    """Returns a row of `batch_results` as a value.

    Args:
        row: the row.
        opened: the predictions, if the row has them encrypted.
    """
    if row["status"] != OK:
        error = ItemError(row["status"], row["reason"], row["message"])
        return ItemResult(row["number"], row["filename"], (), None, error)
    if opened is None:
        assert row["predictions"] is not None
        opened = predictions_from_json(row["predictions"])
    return ItemResult(
        number=row["number"],
        filename=row["filename"],
        predictions=opened,
        model=ModelRef(row["model_name"], row["model_version"], row["model_digest"]),
        error=None,
        warnings=ImageWarning.known(row["warnings"]),
    )
