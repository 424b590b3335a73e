"""Writes an OpenAPI 3.1 document from a descriptor set: bindings, types, comments.

A binding whose path ends in `:upload` and whose body is `google.api.HttpBody` has no public path of
its own: the gateway sends it every body of the sibling path that is not JSON.  It adds content
types to the request of the sibling.  A stream of messages is lines of JSON, or server-sent events;
a stream of `google.api.HttpBody` is a file, and one of it is a picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from image_categorizer.v1 import options_pb2
from openapi_schemas import (
    HTTP_BODY,
    WELL_KNOWN,
    Comments,
    Json,
    Message,
    Messages,
    Schemas,
    files_of_ours,
    messages,
    reference,
)

UPLOAD = ":upload"
FILE_KINDS = ("application/x-ndjson", "text/csv")
# Of a part of a file; the second is that of tus 1.0.
PART_KINDS = ("application/octet-stream", "application/offset+octet-stream")
PICTURE_KINDS = ("image/jpeg", "image/png", "image/webp", "image/avif")
# RPCs whose files are of other kinds.
OTHER_FILES = {
    "ExportSubject": ("application/zip",),
    "ExportDataset": ("application/x-tar",),
}
BINARY: Json = {"type": "string", "format": "binary"}


class Dumper(yaml.SafeDumper):
    """Writes multi-line text as blocks, and equal values in full instead of as aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Returns true."""
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


# What a browser opens: redirects, cookies and pages, not for programs.
BROWSER = ("/auth/", "/docs/", "/ui/")


@dataclass(frozen=True)
class Binding:
    """One RPC and its form in REST."""

    method: MethodDescriptorProto
    service: str
    verb: str
    path: str
    body: str
    text: str

    def is_upload(self, request: Message) -> bool:
        """Returns whether it takes the bodies of its sibling that are not JSON."""
        return self.path.endswith(UPLOAD) and self.is_bytes(request)

    def is_bytes(self, request: Message) -> bool:
        """Returns whether its body is bytes of any type."""
        return any(
            field.name == self.body and field.type_name == HTTP_BODY
            for field in request.proto.field
        )


class Parameter(NamedTuple):
    """One path or query parameter."""

    name: str
    in_path: bool
    text: str
    schema: Json

    def entry(self) -> Json:
        """Returns the parameter of an operation."""
        return {
            "name": self.name,
            "in": "path" if self.in_path else "query",
            "required": self.in_path,
            "description": self.text,
            "schema": self.schema,
        }

    def property(self) -> Json:
        """Returns the form field that stands for the query parameter."""
        return {**self.schema, "description": self.text}


def bindings(files: FileDescriptorSet) -> Iterator[Binding]:
    """Yields every RPC with an HTTP binding."""
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
    """Returns the HTTP method and the path of an RPC; both empty if it has none."""
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
        operations: list[Binding] = []
        uploads: dict[tuple[str, str], Binding] = {}
        for binding in bindings(self._files):
            if binding.path.startswith(BROWSER):
                continue
            if binding.is_upload(self._known[binding.method.input_type]):
                uploads[binding.path.removesuffix(UPLOAD), binding.verb] = binding
            else:
                operations.append(binding)
        found: dict[str, Json] = {}
        for binding in operations:
            upload = uploads.get((binding.path, binding.verb))
            found.setdefault(binding.path, {})[binding.verb] = self._operation(binding, upload)
        return found

    def _operation(self, binding: Binding, upload: Binding | None) -> Json:
        """Returns an operation; `upload` is the binding for its bodies that are not JSON."""
        summary, _, description = binding.text.partition("\n\n")
        operation: Json = {
            "operationId": binding.method.name,
            "tags": [binding.service],
            "summary": summary.rstrip("."),
            "description": description,
            "responses": {
                "200": self._response(binding.method),
                "default": {
                    "description": "An error.",
                    "content": {"application/json": {"schema": reference(".Status")}},
                },
            },
        }
        if binding.method.options.Extensions[options_pb2.required_role] == options_pb2.PUBLIC:
            operation["security"] = []
        parameters = self._parameters(upload or binding)
        if parameters:
            operation["parameters"] = [parameter.entry() for parameter in parameters]
        if binding.body:
            content: Json = {"application/json": {"schema": reference(binding.method.input_type)}}
            if binding.is_bytes(self._known[binding.method.input_type]):
                content = {kind: {"schema": BINARY} for kind in PART_KINDS}
            if upload and upload.method.client_streaming:
                content |= form_of_many(parameters)
            elif upload:
                content |= upload_content(parameters)
            operation["requestBody"] = {"required": True, "content": content}
        return operation

    def _parameters(self, binding: Binding) -> list[Parameter]:
        """Returns the path and query parameters: the fields that are not in the body.

        Of messages, only those with a JSON form of their own can be parameters, such as times.
        """
        request = self._known[binding.method.input_type]
        found = []
        for position, field in enumerate(request.proto.field):
            in_path = f"{{{field.name}}}" in binding.path
            in_body = binding.body in ("*", field.name)
            is_message = (
                field.type == FieldDescriptorProto.TYPE_MESSAGE
                and field.type_name not in WELL_KNOWN
            )
            if in_path or not (in_body or is_message):
                schema = self._schemas.field(field, "")
                found.append(Parameter(field.name, in_path, request.field_text(position), schema))
        return found

    def _response(self, method: MethodDescriptorProto) -> Json:
        if method.output_type == HTTP_BODY:
            usual = FILE_KINDS if method.server_streaming else PICTURE_KINDS
            kinds = OTHER_FILES.get(method.name, usual)
            content = {kind: {"schema": BINARY} for kind in kinds}
            name = "A file." if method.server_streaming else "A picture."
            return {"description": name, "content": content}
        text = self._known[method.output_type].text()
        schema = reference(method.output_type)
        if not method.server_streaming:
            return {"description": text, "content": {"application/json": {"schema": schema}}}
        return {
            "description": f"{text}\n\nA stream: lines of JSON, or the data of server-sent events.",
            "content": {
                "application/x-ndjson": {"schema": schema},
                "text/event-stream": {"schema": schema},
            },
        }


def upload_content(parameters: list[Parameter]) -> Json:
    """Returns the content types of an upload of one image: a form, or the bytes themselves."""
    image = {**BINARY, "description": "The encoded image. Required unless `image_uri` is given."}
    form = {
        "type": "object",
        "properties": {"image": image, **properties(parameters)},
    }
    return {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": BINARY},
        "image/*": {"schema": BINARY},
    }


def form_of_many(parameters: list[Parameter]) -> Json:
    """Returns the content type of an upload of many images: a form."""
    files: Json = {"type": "array", "items": BINARY}
    text = "The encoded images, or zip files that contain images. The name may also be `images[]`."
    images = {**files, "description": text}
    form = {
        "type": "object",
        "properties": {
            **properties(parameters),
            "images": images,
        },
    }
    return {"multipart/form-data": {"schema": form}}


def properties(parameters: list[Parameter]) -> Json:
    """Returns the form fields that stand for query parameters."""
    return {parameter.name: parameter.property() for parameter in parameters}


def openapi_document(files: FileDescriptorSet) -> str:
    """Returns the document as YAML."""
    known = messages(files)
    schemas = Schemas(files, [binding.method.input_type for binding in bindings(files)])
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
            "summary": "Classifies photographs into categories.",
            "description": "Names are snake_case or camelCase. Unknown parameters are errors.",
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
