"""Results as a file: JSON lines, or CSV (RFC 4180)."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from image_categorizer_server.domain.batch import ItemResult
from image_categorizer_server.domain.classification import Prediction
from image_categorizer_server.errors import InvalidRequest

COLUMNS = ("item_id", "filename", "category", "confidence", "predictions", "error_reason")
PIECE_CHARACTERS = 65_536


@dataclass(frozen=True, slots=True)
class FileFormat:
    """One form of the file."""

    suffix: str
    content_type: str
    heading: str
    line: Callable[[ItemResult], str]


def file_format(name: str) -> FileFormat:
    """Returns the form by its name; empty means JSON lines.

    Raises:
        InvalidRequest: there is no such form.
    """
    if found := FORMATS.get(name or "jsonl"):
        return found
    raise InvalidRequest.of([("format", f"must be {' or '.join(FORMATS)}")])


async def pieces(results: AsyncIterator[ItemResult], form: FileFormat) -> AsyncIterator[bytes]:
    """Yields the file in pieces of some 64 KB, at least one."""
    lines, characters = [form.heading], len(form.heading)
    is_begun = False
    async for result in results:
        lines.append(form.line(result))
        characters += len(lines[-1])
        if characters >= PIECE_CHARACTERS:
            yield "".join(lines).encode()
            lines, characters, is_begun = [], 0, True
    if characters or not is_begun:
        yield "".join(lines).encode()


def _fields(result: ItemResult) -> dict[str, Any]:
    best = result.predictions[0] if result.predictions else None
    return {
        "item_id": str(result.number),
        "filename": result.filename,
        "category": best.category.name if best else None,
        "confidence": best.confidence if best else None,
        "predictions": [_prediction(p) for p in result.predictions],
        "error_reason": result.error.reason if result.error else None,
    }


def _prediction(value: Prediction) -> dict[str, Any]:
    return {
        "category": value.category.name,
        "confidence": value.confidence,
        "bounding_box": list(value.bounding_box or ()),
        "category_id": value.category.category_id,
        "ancestors": list(value.category.ancestors),
    }


def _json_line(result: ItemResult) -> str:
    return json.dumps(_fields(result), ensure_ascii=False) + "\n"


def _csv_line(result: ItemResult) -> str:
    fields = _fields(result)
    fields["predictions"] = json.dumps(fields["predictions"], ensure_ascii=False)
    return _row([fields[column] for column in COLUMNS])


def _row(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


FORMATS = {
    "jsonl": FileFormat("jsonl", "application/x-ndjson", "", _json_line),
    "csv": FileFormat("csv", "text/csv", _row(list(COLUMNS)), _csv_line),
}
