"""Files that answers stream: JSON lines, or CSV (RFC 4180).

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, and a file name may
be one.  In CSV such text is preceded by an apostrophe, as OWASP advises; numbers are not text.
"""

import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from image_categorizer_server.errors import InvalidRequest

Entry = TypeVar("Entry")
PIECE_BYTES = 65_536
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
BYTE_ORDER_MARK = "\ufeff"
CSV_TYPE = "text/csv; charset=utf-8; header=present"


@dataclass(frozen=True, slots=True)
class FileFormat(Generic[Entry]):
    """One file format."""

    suffix: str
    content_type: str
    heading: str
    line: Callable[[Entry], str]


def formats(
    columns: Sequence[str], json_line: Callable[[Entry], str], csv_line: Callable[[Entry], str]
) -> dict[str, FileFormat[Entry]]:
    """Returns both formats by their names.

    Args:
        columns: the names in the header line of CSV.
        json_line: returns an entry as a line.
        csv_line: returns an entry as a row; see `csv_row`.
    """
    return {
        "jsonl": FileFormat("jsonl", "application/x-ndjson", "", json_line),
        "csv": FileFormat("csv", CSV_TYPE, csv_row(columns), csv_line),
    }


def file_format(
    known: Mapping[str, FileFormat[Entry]], name: str, *, bom: bool = False
) -> FileFormat[Entry]:
    """Returns the format with a name; JSON lines if the name is empty.

    Args:
        known: both formats; see `formats`.
        name: the format.
        bom: whether the file begins with a byte order mark.

    Raises:
        InvalidRequest: no such format, or JSON with a byte order mark (RFC 8259 forbids it).
    """
    found = known.get(name or "jsonl")
    if found is None:
        raise InvalidRequest.of([("format", f"must be {' or '.join(known)}")])
    if not bom:
        return found
    if found.suffix != "csv":
        raise InvalidRequest.of([("bom", "is for the format csv only")])
    return replace(found, heading=BYTE_ORDER_MARK + found.heading)


async def pieces(entries: AsyncIterator[Entry], file: FileFormat[Entry]) -> AsyncIterator[bytes]:
    """Yields the file in pieces of at most 64 KB; one empty piece for an empty file."""
    piece, has_begun = bytearray(file.heading.encode()), False
    async for entry in entries:
        # One line may be longer than a gRPC message may be.
        piece += file.line(entry).encode()
        start = 0
        while len(piece) - start >= PIECE_BYTES:
            yield bytes(piece[start : start + PIECE_BYTES])
            start, has_begun = start + PIECE_BYTES, True
        del piece[:start]
    if piece or not has_begun:
        yield bytes(piece)


def csv_row(values: Sequence[object]) -> str:
    """Returns a row of CSV, with the end of its line."""
    line = io.StringIO()
    csv.writer(line).writerow(map(_cell, values))
    return line.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
