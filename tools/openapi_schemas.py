"""JSON schemas of protobuf messages, in proto3's JSON form with the protos' own names."""

import re
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

Json = dict[str, Any]
FIELD = FieldDescriptorProto
HTTP_BODY = ".google.api.HttpBody"
SCALARS: dict[int, Json] = {
    FIELD.TYPE_BOOL: {"type": "boolean"},
    FIELD.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FIELD.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FIELD.TYPE_FLOAT: {"type": "number", "format": "float"},
    FIELD.TYPE_INT32: {"type": "integer", "format": "int32"},
    FIELD.TYPE_STRING: {"type": "string"},
    FIELD.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FIELD.TYPE_UINT64: {"type": "string", "pattern": "^[0-9]+$"},  # JSON's numbers are too small
}
# Messages of Google's that have a JSON form of their own.
WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
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


Messages = dict[str, tuple[DescriptorProto, Comments, int]]


def files_of_ours(files: FileDescriptorSet) -> list[FileDescriptorProto]:
    """Returns the files of our own package, without the one that only declares options."""
    return [
        file
        for file in files.file
        if file.package.startswith("image_categorizer.") and not file.name.endswith("options.proto")
    ]


def messages(files: FileDescriptorSet) -> Messages:
    """Returns our messages by full name (`.package.Name`), with comments and index."""
    return {
        f".{file.package}.{message.name}": (message, Comments(file), index)
        for file in files_of_ours(files)
        for index, message in enumerate(file.message_type)
    }


def enums(known: Messages) -> dict[str, EnumDescriptorProto]:
    """Returns the enums inside our messages by full name (`.package.Message.Name`)."""
    return {
        f"{name}.{enum.name}": enum
        for name, (message, _, _) in known.items()
        for enum in message.enum_type
    }


class Schemas:
    """The schemas of all our messages."""

    def __init__(self, known: Messages) -> None:
        self._known = known
        self._enums = enums(known)

    def field(self, field: FieldDescriptorProto, text: str) -> Json:
        """Returns the schema of one field, described by `text`."""
        if field.type == FIELD.TYPE_MESSAGE:
            item = dict(WELL_KNOWN.get(field.type_name) or reference(field.type_name))
        elif field.type == FIELD.TYPE_ENUM:
            values = self._enums[field.type_name].value
            item = {"type": "string", "enum": [value.name for value in values]}
        else:
            item = dict(SCALARS[field.type])
        if field.label == FIELD.LABEL_REPEATED:
            item = {"type": "array", "items": item}
        return {**item, "description": text} if text else item

    def message(self, message: DescriptorProto, comments: Comments, index: int) -> Json:
        """Returns the schema of one message."""
        properties = {
            field.name: self.field(field, comments.text(4, index, 2, position))
            for position, field in enumerate(message.field)
        }
        return {"type": "object", "description": comments.text(4, index), "properties": properties}

    def all(self) -> dict[str, Json]:
        """Returns every schema by the message's name; bodies that are no JSON have none."""
        schemas = {
            message.name: self.message(message, comments, index)
            for message, comments, index in self._known.values()
            if not any(field.type_name == HTTP_BODY for field in message.field)
        }
        return {**schemas, "Status": STATUS}


def reference(type_name: str) -> Json:
    """Returns a reference to a message's schema."""
    return {"$ref": f"#/components/schemas/{type_name.rsplit('.', 1)[1]}"}
