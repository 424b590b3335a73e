"""Export of results as a file."""

import json

from image_categorizer_server.domain.batch import ItemResult
from image_categorizer_server.rpc.export import csv_row, formats

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
    return csv_row([fields[column] for column in COLUMNS])


FORMATS = formats(COLUMNS, _json_line, _csv_line)
