"""What is generated for the JavaScript SDK."""

import javascript
import pytest


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("top_k", "topK"),
        ("input_width_px", "inputWidthPx"),
        ("processing_time", "processingTimeS"),
        ("max_batch_bytes", "maxBatchBytes"),
    ],
)
def test_fields_have_names_in_camel_case(name, shown):
    assert javascript.camel_case(name) == shown


def test_a_name_of_two_kinds_of_fields_is_refused():
    """The SDK tells times and numbers in texts by the names of the fields."""
    kinds = javascript.Kinds()
    kinds.add("end_time", {"type": "string", "format": "date-time"})
    kinds.add("size", {"type": "string", "pattern": "^[0-9]+$"})
    assert '"end_time"' in kinds.tables()
    kinds.add("size", {"type": "string"})
    with pytest.raises(ValueError, match="size"):
        kinds.tables()


def test_a_message_is_an_interface():
    schema = {
        "description": "A thing with a `page_token`.",
        "required": ["a_time", "cache", "state"],
        "properties": {
            "a_time": {"type": "string", "format": "date-time"},
            "left": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
            "cache": {"type": "string", "enum": ["CACHE_UNSPECIFIED", "HIT"]},
            "state": {"type": "string", "enum": ["STATE_UNSPECIFIED", "A", "B"]},
            "others": {"type": "array", "items": {"$ref": "#/components/schemas/Other"}},
        },
    }
    assert javascript.interface("Thing", schema, is_answer=True).splitlines() == [
        "/** A thing with a `pageToken`. */",
        "export interface Thing {",
        "  aTime: Date;",
        "  leftS?: number | undefined;",
        '  cache?: "HIT" | undefined;',
        '  state: "A" | "B";',
        "  others?: Other[] | undefined;",
        "}",
    ]
