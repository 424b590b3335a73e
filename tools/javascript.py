"""Writes the types, field tables and error classes of the JavaScript SDK.

Types and tables come from the descriptor set, in the form that the gateway gives the messages in
JSON.  The names are camelCase; times are `Date`, durations are seconds, and what the gateway writes
as an `..._UNSPECIFIED` value is absent.  The error classes are those of the Python SDK, whose tree
a test compares with `enum ErrorReason`.
"""

import re
from collections.abc import Iterator
from typing import cast

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from image_categorizer import errors
from openapi import BROWSER, bindings
from openapi_schemas import Json, Schemas, messages

HEADER = "// Generated from proto/ by tools/generate.py; do not edit.\n"
# Requests whose fields are arguments of the SDK's methods.
ARGUMENTS = (
    *("BatchConfig", "ClassifyOptions", "CreateApiKeyRequest", "CreateUploadRequest"),
    *("GetDriftRequest", "GetReviewAgreementRequest", "GetUsageRequest", "ListAuditEventsRequest"),
    *("ListImagesRequest", "ListReviewItemsRequest", "UpdateApiKeyRequest"),
    *("UpdateImageRequest", "UpdateTenantRequest", "UpdateWebhookRequest", "UploadImageRequest"),
)
# Seconds whose name in the protos has no unit.
SECONDS = {"processing_time": "processingTimeS"}
UNSPECIFIED = "_UNSPECIFIED"
# Enums that answers leave unspecified; the others always have a value.
OPEN_ENUMS = {"activation", "cache", "localization"}
IN_WORD = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


def camel_case(name: str) -> str:
    """Returns a field's name in the SDK."""
    return SECONDS.get(name) or IN_WORD.sub(_upper, name)


def _upper(found: re.Match[str]) -> str:
    return found[1].upper()


class Kinds:
    """The names of answers' fields that JSON has as text and the SDK as something else."""

    def __init__(self) -> None:
        self.times: set[str] = set()
        self.durations: set[str] = set()
        self.numbers: set[str] = set()
        self.bytes: set[str] = set()
        self.enums: set[str] = set()
        self.free: set[str] = set()
        self.texts: set[str] = set()

    def add(self, name: str, schema: Json) -> None:
        """Notes a field."""
        item = cast(Json, schema.get("items", schema))
        self._of(item).add(name)

    def _of(self, item: Json) -> set[str]:
        if "additionalProperties" in item:
            return self.free
        if item.get("type") != "string":
            return set()
        if item.get("format") == "date-time":
            return self.times
        if "enum" in item:
            return self.enums
        if "contentEncoding" in item:
            return self.bytes
        if pattern := item.get("pattern"):
            return self.numbers if pattern == "^[0-9]+$" else self.durations
        return self.texts

    def tables(self) -> str:
        """Returns the module that the SDK decodes answers by.

        Raises:
            ValueError: a name is that of two kinds of fields, so that it does not tell them apart.
        """
        kinds = {
            "TIMES": self.times,
            "DURATIONS": self.durations,
            "NUMBERS": self.numbers,
            "BYTES": self.bytes,
            "ENUMS": self.enums,
            "FREE": self.free,
        }
        lines = [HEADER]
        seen = set(self.texts)
        for table, names in kinds.items():
            # A second enum, or none, of this name does no harm: it has the same ending.
            if table != "ENUMS" and (both := names & seen):
                raise ValueError(f"{sorted(both)} are fields of several kinds")
            seen |= names
            lines.append(f"export const {table}: ReadonlySet<string> = new Set([")
            lines += [f'  "{name}",' for name in sorted(names)]
            lines.append("]);")
        lines.append("export const SECONDS: Readonly<Record<string, string>> = {")
        lines += [f'  {name}: "{renamed}",' for name, renamed in SECONDS.items()]
        lines.append("};")
        return "\n".join(lines) + "\n"


def types_and_tables(files: FileDescriptorSet) -> tuple[str, str]:
    """Returns the module of the types, and that of the tables."""
    known = messages(files)
    rpcs = [rpc for rpc in bindings(files) if not rpc.path.startswith(BROWSER)]
    requests = [rpc.method.input_type for rpc in rpcs]
    schemas = cast(dict[str, Json], Schemas(files, requests).all())
    answers = list(reachable(schemas, [_name(rpc.method.output_type) for rpc in rpcs]))
    kinds = Kinds()
    for name in answers:
        for field, schema in properties(schemas[name]):
            kinds.add(field, schema)
    wanted = dict.fromkeys([*answers, *reachable(schemas, ARGUMENTS)])
    ordered = [_name(full) for full in known if _name(full) in wanted]
    shown = [interface(name, schemas[name], is_answer=name in answers) for name in ordered]
    return "\n".join([HEADER, *shown]), kinds.tables()


def reachable(schemas: dict[str, Json], names: list[str] | tuple[str, ...]) -> Iterator[str]:
    """Yields messages and the messages in them, except statuses, which become errors."""
    waiting, seen = list(names), {"Status"}
    while waiting:
        name = waiting.pop()
        if name in seen or name not in schemas:
            continue
        seen.add(name)
        yield name
        for _, schema in properties(schemas[name]):
            item = cast(Json, schema.get("items", schema))
            if "$ref" in item:
                waiting.append(_name(str(item["$ref"])))


def properties(schema: Json) -> list[tuple[str, Json]]:
    """Returns the fields of a message."""
    return list(cast(dict[str, Json], schema.get("properties", {})).items())


def _name(reference: str) -> str:
    return re.split(r"[./]", reference)[-1]


def interface(name: str, schema: Json, *, is_answer: bool) -> str:
    """Returns one message as an interface."""
    required = cast(list[str], schema.get("required", []))
    lines = [*comment(str(schema.get("description", "")), ""), f"export interface {name} {{"]
    for field, of in properties(schema):
        kind = typescript(field, of)
        is_duration = kind == "Seconds"
        shown = camel_case(field) + ("S" if is_duration else "")
        is_certain = field in required and is_answer and field not in OPEN_ENUMS
        is_bytes = kind == "Uint8Array"
        lines += comment(str(of.get("description", "")), "  ")
        mark = "" if is_certain and not is_bytes else "?"
        kind = "number" if is_duration else kind
        lines.append(f"  {shown}{mark}: {kind}{' | undefined' if mark else ''};")
    return "\n".join([*lines, "}", ""])


def typescript(field: str, schema: Json) -> str:
    """Returns the type of a field."""
    if schema.get("type") == "array":
        item = typescript(field, cast(Json, schema["items"]))
        return f"({item})[]" if "|" in item else f"{item}[]"
    if "$ref" in schema:
        name = _name(str(schema["$ref"]))
        return "ItemStatus" if name == "Status" else name
    if "additionalProperties" in schema:
        return "Record<string, unknown>"
    if values := cast(list[str], schema.get("enum", [])):
        return " | ".join(f'"{value}"' for value in values if not value.endswith(UNSPECIFIED))
    if schema.get("format") == "date-time":
        return "Date"
    if "contentEncoding" in schema:
        return "Uint8Array"
    if pattern := schema.get("pattern"):
        return "number" if pattern == "^[0-9]+$" else "Seconds"
    if field == "version":
        return "string"
    return {"string": "string", "boolean": "boolean"}.get(str(schema["type"]), "number")


def comment(text: str, indent: str) -> list[str]:
    """Returns a documentation comment, in which fields have their names in the SDK."""
    text = re.sub(r"`[^`]*`", lambda code: IN_WORD.sub(_upper, code[0]), text)
    lines = text.replace("*/", "* /").split("\n")
    if not text:
        return []
    if len(lines) == 1:
        return [f"{indent}/** {text} */"]
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]


def error_classes() -> tuple[str, str]:
    """Returns the module of the errors, the Python SDK's tree, and that of their reasons."""
    lines = [HEADER, 'import { CategorizerError } from "../failure.js";', ""]
    tree = list(_tree(errors.CategorizerError))
    for kind in tree:
        parent = kind.__mro__[1].__name__
        lines += comment(_sentence(kind.__doc__ or ""), "")
        lines.append(f"export class {kind.__name__} extends {parent} {{")
        lines.append(f'  static override readonly reason: string = "{kind.reason}";')
        lines += ["}", ""]
    table = [
        HEADER,
        'import type { CategorizerError } from "../failure.js";',
        'import * as errors from "./errors.js";',
        "",
        "const CLASSES: (typeof CategorizerError)[] = [",
        *(f"  errors.{kind.__name__}," for kind in tree),
        "];",
        "",
        "/** The classes by reason. */",
        "export const BY_REASON: Readonly<Record<string, typeof CategorizerError>> =",
        "  Object.fromEntries(CLASSES.map((kind) => [kind.reason, kind]));",
        "",
    ]
    return "\n".join(lines), "\n".join(table)


def _sentence(text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return text.replace(" None", " undefined")


def _tree(root: type[errors.CategorizerError]) -> Iterator[type[errors.CategorizerError]]:
    for child in root.__subclasses__():
        yield child
        yield from _tree(child)


def modules(files: FileDescriptorSet) -> dict[str, str]:
    """Returns the generated modules by file name."""
    types, tables = types_and_tables(files)
    # What a failed item carries: only `_statuses` reads it.
    first, rest = types.split("\n", 1)
    types = f'{first}\nimport type {{ ItemStatus }} from "../failure.js";\n{rest}'
    classes, reasons = error_classes()
    return {"types.ts": types, "fields.ts": tables, "errors.ts": classes, "reasons.ts": reasons}
