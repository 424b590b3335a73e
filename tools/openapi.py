"""Writes an OpenAPI 3.1 document from a descriptor set: bindings, types, comments.

A binding whose path ends in `:upload` and whose body is `google.api.HttpBody` has no path of its
own in public: the gateway brings other bodies than JSON of the sibling path there, so it becomes
more content types of the sibling's request.  A stream of messages is JSON by lines, or events; a
stream of `google.api.HttpBody` is a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from openapi_schemas import (
    HTTP_BODY,
    Comments,
    Json,
    Messages,
    Schemas,
    files_of_ours,
    messages,
    reference,
)

UPLOAD = ":upload"
FILE_KINDS = ("application/x-ndjson", "text/csv")
BINARY: Json = {"type": "string", "format": "binary"}


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


@dataclass(frozen=True)
class Binding:
    """One method and its place in REST."""

    method: MethodDescriptorProto
    service: str
    verb: str
    path: str
    body: str
    text: str

    def is_upload(self, request: DescriptorProto) -> bool:
        """Returns whether it takes the bodies that are no JSON of its sibling."""
        return self.path.endswith(UPLOAD) and any(
            field.name == self.body and field.type_name == HTTP_BODY for field in request.field
        )


def bindings(files: FileDescriptorSet) -> Iterator[Binding]:
    """Yields every method with an HTTP binding."""
    for file in files_of_ours(files):
        comments = Comments(file)
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                verb, path = http_rule(method)
                if verb:
                    text = comments.text(6, s, 2, m)
                    body = method.options.Extensions[annotations_pb2.http].body
                    yield Binding(method, service.name, verb, path, body, text)


def http_rule(method: MethodDescriptorProto) -> tuple[str, str]:
    """Returns the HTTP method and the path of an RPC; both empty where it has none."""
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern") or ""
    return verb, getattr(rule, verb) if verb else ""


class Paths:
    """The document's `paths`."""

    def __init__(self, files: FileDescriptorSet, known: Messages, schemas: Schemas) -> None:
        self._files = files
        self._known = known
        self._schemas = schemas

    def all(self) -> dict[str, Json]:
        """Returns every public path with its operations."""
        found: dict[str, Json] = {}
        uploads: list[tuple[Binding, list[Json]]] = []
        for binding in bindings(self._files):
            request, comments, index = self._known[binding.method.input_type]
            fields = self._parameters(binding, request, comments, index)
            if binding.is_upload(request):
                uploads.append((binding, fields))
                continue
            entry = self._operation(binding)
            if fields:
                entry["parameters"] = fields
            if binding.body == "*":
                content = {"application/json": {"schema": reference(binding.method.input_type)}}
                entry["requestBody"] = {"required": True, "content": content}
            found.setdefault(binding.path, {})[binding.verb] = entry
        for binding, fields in uploads:
            sibling = found[binding.path.removesuffix(UPLOAD)][binding.verb]
            sibling["parameters"] = fields
            is_stream = binding.method.client_streaming
            content = form_of_many(fields) if is_stream else upload_content(fields)
            sibling["requestBody"]["content"].update(content)
        return found

    def _parameters(
        self, binding: Binding, request: DescriptorProto, comments: Comments, index: int
    ) -> list[Json]:
        """Returns the path and query parameters: every scalar field that is not in the body."""
        found = []
        for position, field in enumerate(request.field):
            in_path = f"{{{field.name}}}" in binding.path
            in_body = binding.body == "*" or field.name == binding.body
            if (in_body or field.type == FieldDescriptorProto.TYPE_MESSAGE) and not in_path:
                continue
            found.append(
                {
                    "name": field.name,
                    "in": "path" if in_path else "query",
                    "required": in_path,
                    "description": comments.text(4, index, 2, position),
                    "schema": self._schemas.field(field, ""),
                }
            )
        return found

    def _operation(self, binding: Binding) -> Json:
        """Returns an operation without its request."""
        summary, _, description = binding.text.partition("\n\n")
        operation: Json = {
            "operationId": binding.method.name,
            "tags": [binding.service],
            "summary": summary.rstrip("."),
            "description": description,
            "responses": {
                "200": self._answer(binding.method),
                "default": {
                    "description": "An error.",
                    "content": {"application/json": {"schema": reference(".Status")}},
                },
            },
        }
        if binding.service == "HealthService":
            operation["security"] = []
        return operation

    def _answer(self, method: MethodDescriptorProto) -> Json:
        if method.output_type == HTTP_BODY:
            content = {kind: {"schema": BINARY} for kind in FILE_KINDS}
            return {"description": "A file.", "content": content}
        _, comments, index = self._known[method.output_type]
        text = comments.text(4, index)
        schema = reference(method.output_type)
        if not method.server_streaming:
            return {"description": text, "content": {"application/json": {"schema": schema}}}
        return {
            "description": f"{text}\n\nMany of them: lines of JSON, or events whose data they are.",
            "content": {
                "application/x-ndjson": {"schema": schema},
                "text/event-stream": {"schema": schema},
            },
        }


def upload_content(fields: list[Json]) -> Json:
    """Returns the content types of an upload of one image: a form, or the bare bytes."""
    image = {**BINARY, "description": "The encoded image."}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": image, **options_of(fields)},
    }
    return {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": BINARY},
        "image/*": {"schema": BINARY},
    }


def form_of_many(fields: list[Json]) -> Json:
    """Returns the content type of an upload of many images: a form."""
    files: Json = {"type": "array", "items": BINARY}
    images = {**files, "description": "The encoded images, and zip files of such."}
    form = {
        "type": "object",
        "properties": {
            **options_of(fields),
            "images[]": images,
            "images": {**files, "description": "The same as `images[]`."},
        },
    }
    return {"multipart/form-data": {"schema": form}}


def options_of(fields: list[Json]) -> Json:
    """Returns the fields of a form that stand for query parameters."""
    return {f["name"]: {**f["schema"], "description": f["description"]} for f in fields}


def openapi_document(files: FileDescriptorSet) -> str:
    """Returns the document as YAML."""
    known = messages(files)
    schemas = Schemas(known)
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
        "paths": Paths(files, known, schemas).all(),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `ic_...`.",
                }
            },
            "schemas": schemas.all(),
        },
    }
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"# Generated from proto/image_categorizer/v1 by `make proto`; do not edit.\n{text}"
