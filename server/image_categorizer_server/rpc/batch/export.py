"""Export of results as a file: JSON lines, or CSV (RFC 4180)."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from image_categorizer_server.domain.batch import ItemResult
from image_categorizer_server.domain.classification import Prediction
from image_categorizer_server.errors import InvalidRequest

COLUMNS = ("item_id", "filename", "category", "confidence", "predictions", "error_reason")
PIECE_CHARACTERS = 65_536


@dataclass(frozen=True, slots=True)
class FileFormat:
    """One file format."""

    suffix: str
    content_type: str
    heading: str
    line: Callable[[ItemResult], str]


def file_format(name: str) -> FileFormat:
    """Returns the format with a name; JSON lines if the name is empty.

    Raises:
        InvalidRequest: no such format.
    """
    if found := FORMATS.get(name or "jsonl"):
        return found
    raise InvalidRequest.of([("format", f"must be {' or '.join(FORMATS)}")])


async def pieces(results: AsyncIterator[ItemResult], file: FileFormat) -> AsyncIterator[bytes]:
    """Yields the file in pieces of about 64 KB; one empty piece for an empty file."""
    lines, characters = [file.heading], len(file.heading)
    has_begun = False
    async for result in results:
        lines.append(file.line(result))
        characters += len(lines[-1])
        if characters >= PIECE_CHARACTERS:
            yield "".join(lines).encode()
            lines, characters, has_begun = [], 0, True
    if characters or not has_begun:
        yield "".join(lines).encode()


def _fields(result: ItemResult) -> dict[str, object]:
    best = result.predictions[0] if result.predictions else None
    return {
        "item_id": str(result.number),
        "filename": result.filename,
        "category": best.category.name if best else None,
        "confidence": best.confidence if best else None,
        "predictions": [_prediction(p) for p in result.predictions],
        "error_reason": result.error.reason if result.error else None,
    }


def _prediction(value: Prediction) -> dict[str, object]:
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
    return _csv_row([fields[column] for column in COLUMNS])


def _csv_row(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


FORMATS = {
    "jsonl": FileFormat("jsonl", "application/x-ndjson", "", _json_line),
    "csv": FileFormat("csv", "text/csv", _csv_row(list(COLUMNS)), _csv_line),
}
