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


def _json_line(result: ItemResult) -> str:
    return json.dumps(result.public_fields(), ensure_ascii=False) + "\n"


def _csv_line(result: ItemResult) -> str:
    fields = result.public_fields()
    fields["predictions"] = json.dumps(fields["predictions"], ensure_ascii=False)
    fields["warnings"] = " ".join(result.warnings)
    return csv_row([fields[column] for column in COLUMNS])


FORMATS = formats(COLUMNS, _json_line, _csv_line)
