"""Export of results as a file: JSON lines, or CSV (RFC 4180).

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, and a file name may
be one.  In CSV such text is preceded by an apostrophe, as OWASP advises; numbers are not text.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from image_categorizer_server.domain.batch import ItemResult
from image_categorizer_server.errors import InvalidRequest

COLUMNS = (
    "item_id",
    "filename",
    "category",
    "confidence",
    "predictions",
    "error_reason",
    "warnings",
    "raw_confidence",
)
PIECE_BYTES = 65_536
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class FileFormat:
    """One file format."""

    suffix: str
    content_type: str
    heading: str
    line: Callable[[ItemResult], str]


def file_format(name: str, *, bom: bool = False) -> FileFormat:
    """Returns the format with a name; JSON lines if the name is empty.

    Args:
        name: the format.
        bom: whether the file begins with a byte order mark.

    Raises:
        InvalidRequest: no such format, or JSON with a byte order mark (RFC 8259 forbids it).
    """
    found = FORMATS.get(name or "jsonl")
    if found is None:
        raise InvalidRequest.of([("format", f"must be {' or '.join(FORMATS)}")])
    if not bom:
        return found
    if found.suffix != "csv":
        raise InvalidRequest.of([("bom", "is for the format csv only")])
    return replace(found, heading=BYTE_ORDER_MARK + found.heading)


async def pieces(results: AsyncIterator[ItemResult], file: FileFormat) -> AsyncIterator[bytes]:
    """Yields the file in pieces of at most 64 KB; one empty piece for an empty file."""
    piece, has_begun = bytearray(file.heading.encode()), False
    async for result in results:
        # One line may be longer than a gRPC message may be.
        piece += file.line(result).encode()
        start = 0
        while len(piece) - start >= PIECE_BYTES:
            yield bytes(piece[start : start + PIECE_BYTES])
            start, has_begun = start + PIECE_BYTES, True
        del piece[:start]
    if piece or not has_begun:
        yield bytes(piece)


def _fields(result: ItemResult) -> dict[str, object]:
    best = result.predictions[0] if result.predictions else None
    return {
        "item_id": str(result.number),
        "filename": result.filename,
        "category": best.category.name if best else None,
        "confidence": best.confidence if best else None,
        "predictions": [p.public_fields() for p in result.predictions],
        "error_reason": result.error.reason if result.error else None,
        "warnings": list(result.warnings),
        "raw_confidence": best.raw_confidence if best else None,
    }


def _json_line(result: ItemResult) -> str:
    return json.dumps(_fields(result), ensure_ascii=False) + "\n"


def _csv_line(result: ItemResult) -> str:
    fields = _fields(result)
    fields["predictions"] = json.dumps(fields["predictions"], ensure_ascii=False)
    fields["warnings"] = " ".join(result.warnings)
    return _csv_row([fields[column] for column in COLUMNS])


def _csv_row(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(map(_cell, values))
    return line.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


FORMATS = {
    "jsonl": FileFormat("jsonl", "application/x-ndjson", "", _json_line),
    "csv": FileFormat(
        "csv", "text/csv; charset=utf-8; header=present", _csv_row(list(COLUMNS)), _csv_line
    ),
}
