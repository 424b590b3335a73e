"""Writes an OpenAPI 3.1 document from a descriptor set: bindings, types, comments.

A binding whose path ends in `:upload` and whose body is `google.api.HttpBody` has no path of its
own in
public: the gateway brings multipart and raw bodies of the sibling path there, so it becomes two
more content types of the sibling's request.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

Json = dict[str, Any]
FIELD = FieldDescriptorProto
HTTP_BODY = ".google.api.HttpBody"
UPLOAD = ":upload"
SCALARS: dict[int, Json] = {
    FIELD.TYPE_BOOL: {"type": "boolean"},
    FIELD.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FIELD.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FIELD.TYPE_FLOAT: {"type": "number", "format": "float"},
    FIELD.TYPE_INT32: {"type": "integer", "format": "int32"},
    FIELD.TYPE_STRING: {"type": "string"},
    FIELD.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
}
STATUS: Json = {
    "description": "What went wrong, in the form of google.rpc.Status.",
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "The gRPC status code (google.rpc.Code)."},
        "message": {"type": "string", "description": "For a person to read."},
        "details": {
            "type": "array",
            "description": "Among them a google.rpc.ErrorInfo, whose `reason` is stable.",
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {"@type": {"type": "string"}},
            },
        },
    },
}


class Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Returns true: equal values are written again."""
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


class Comments:
    """The comments of one file, by the path that descriptor.proto gives each element."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
        }

    def text(self, *path: int) -> str:
        """Returns the comment as Markdown: each paragraph and each list item on one line."""
        lines = [line.strip() for line in self._texts.get(path, "").strip().split("\n")]
        return re.sub(r"(?<=\S)\n(?=[^\n-])", " ", "\n".join(lines))


def files_of_ours(files: FileDescriptorSet) -> list[FileDescriptorProto]:
    """Returns the files of our own package."""
    return [file for file in files.file if file.package.startswith("image_categorizer.")]


def messages(files: FileDescriptorSet) -> dict[str, tuple[DescriptorProto, Comments, int]]:
    """Returns our messages by full name (`.package.Name`), with comments and index."""
    return {
        f".{file.package}.{message.name}": (message, Comments(file), index)
        for file in files_of_ours(files)
        for index, message in enumerate(file.message_type)
    }


def field_schema(message: DescriptorProto, field: FieldDescriptorProto, text: str) -> Json:
    """Returns the JSON schema of one field, in proto3's JSON form with the proto's own names."""
    if field.type == FIELD.TYPE_MESSAGE:
        item: Json = {"$ref": f"#/components/schemas/{field.type_name.rsplit('.', 1)[1]}"}
    elif field.type == FIELD.TYPE_ENUM:
        name = field.type_name.rsplit(".", 1)[1]
        values = next(enum.value for enum in message.enum_type if enum.name == name)
        item = {"type": "string", "enum": [value.name for value in values]}
    else:
        item = dict(SCALARS[field.type])
    if field.label == FIELD.LABEL_REPEATED:
        item = {"type": "array", "items": item}
    return {**item, "description": text} if text else item


def message_schema(message: DescriptorProto, comments: Comments, index: int) -> Json:
    """Returns the JSON schema of one message."""
    properties = {
        field.name: field_schema(message, field, comments.text(4, index, 2, position))
        for position, field in enumerate(message.field)
    }
    return {"type": "object", "description": comments.text(4, index), "properties": properties}


def bindings(
    files: FileDescriptorSet,
) -> Iterator[tuple[MethodDescriptorProto, str, str, str, str, str]]:
    """Yields (method, service, verb, path, body, comment) for every method with an HTTP binding."""
    for file in files_of_ours(files):
        comments = Comments(file)
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                rule = method.options.Extensions[annotations_pb2.http]
                verb = rule.WhichOneof("pattern")
                if verb:
                    yield (
                        method,
                        service.name,
                        verb,
                        getattr(rule, verb),
                        rule.body,
                        comments.text(6, s, 2, m),
                    )


def parameters(
    request: DescriptorProto, comments: Comments, index: int, path: str, body: str
) -> list[Json]:
    """Returns the path and query parameters: every scalar field that is not in the body."""
    found = []
    for position, field in enumerate(request.field):
        in_path = f"{{{field.name}}}" in path
        if body == "*" or field.name == body or field.type == FIELD.TYPE_MESSAGE:
            continue
        schema = field_schema(request, field, "")
        found.append(
            {
                "name": field.name,
                "in": "path" if in_path else "query",
                "required": in_path,
                "description": comments.text(4, index, 2, position),
                "schema": schema,
            }
        )
    return found


def upload_content(fields: list[Json]) -> Json:
    """Returns the content types of an upload: a form, or the bare bytes."""
    options = {f["name"]: {**f["schema"], "description": f["description"]} for f in fields}
    image = {"type": "string", "format": "binary", "description": "The encoded image."}
    form = {"type": "object", "required": ["image"], "properties": {"image": image, **options}}
    return {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    }


def operation(
    method: MethodDescriptorProto, service: str, text: str, known: dict[str, Any]
) -> Json:
    """Returns an operation without its request."""
    summary, _, description = text.partition("\n\n")
    response = {"$ref": f"#/components/schemas/{method.output_type.rsplit('.', 1)[1]}"}
    error = {"$ref": "#/components/schemas/Status"}
    operation: Json = {
        "operationId": method.name,
        "tags": [service],
        "summary": summary.rstrip("."),
        "description": description,
        "responses": {
            "200": {
                "description": known[method.output_type],
                "content": {"application/json": {"schema": response}},
            },
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": error}},
            },
        },
    }
    if service == "HealthService":
        operation["security"] = []
    return operation


def paths(files: FileDescriptorSet) -> dict[str, Json]:
    """Returns the document's `paths`."""
    known = messages(files)
    texts = {name: comments.text(4, index) for name, (_, comments, index) in known.items()}
    found: dict[str, Json] = {}
    uploads: list[tuple[str, list[Json]]] = []
    for method, service, verb, path, body, text in bindings(files):
        request, comments, index = known[method.input_type]
        fields = parameters(request, comments, index, path, body)
        if path.endswith(UPLOAD) and any(
            f.name == body and f.type_name == HTTP_BODY for f in request.field
        ):
            uploads.append((path.removesuffix(UPLOAD), fields))
            continue
        entry = operation(method, service, text, texts)
        if fields:
            entry["parameters"] = fields
        if body == "*":
            schema = {"$ref": f"#/components/schemas/{request.name}"}
            entry["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": schema}},
            }
        found.setdefault(path, {})[verb] = entry
    for path, fields in uploads:
        found[path]["post"]["parameters"] = fields
        found[path]["post"]["requestBody"]["content"].update(upload_content(fields))
    return found


def openapi_document(files: FileDescriptorSet) -> str:
    """Returns the document as YAML."""
    schemas = {
        message.name: message_schema(message, comments, index)
        for message, comments, index in messages(files).values()
        if not any(field.type_name == HTTP_BODY for field in message.field)
    }
    tags = [
        {"name": service.name, "description": Comments(file).text(6, index)}
        for file in files_of_ours(files)
        for index, service in enumerate(file.service)
    ]
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Image Categorizer",
            "version": "v1",
            "summary": "Sorts photographs into categories.",
            "description": "Unknown JSON fields are ignored; unknown query parameters are refused.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": tags,
        "paths": paths(files),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `ic_...`.",
                }
            },
            "schemas": {**schemas, "Status": STATUS},
        },
    }
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"# Generated from proto/image_categorizer/v1 by `make proto`; do not edit.\n{text}"
