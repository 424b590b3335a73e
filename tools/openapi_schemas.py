"""JSON schemas of protobuf messages, in proto3's JSON form with the field names of the protos."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

Json = dict[str, object]
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
    FIELD.TYPE_UINT64: {
        "type": "string",
        "pattern": "^[0-9]+$",
    },  # no exact JSON number
}
# Google's messages that have a JSON form of their own.
WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
}
STATUS: Json = {
    "description": "An error, in the form of google.rpc.Status.",
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "The gRPC status code (google.rpc.Code)."},
        "message": {"type": "string", "description": "A description for people; it may change."},
        "details": {
            "type": "array",
            "description": "One is a google.rpc.ErrorInfo, whose `reason` is stable.",
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {"@type": {"type": "string"}},
            },
        },
    },
}


class Comments:
    """The comments of one file, by the path of each element as descriptor.proto defines it."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
        }

    def text(self, *path: int) -> str:
        """Returns the comment as Markdown: each paragraph and each list item on one line."""
        lines = [line.strip() for line in self._texts.get(path, "").strip().split("\n")]
        return re.sub(r"(?<=\S)\n(?=[^\n-])", " ", "\n".join(lines))


@dataclass(frozen=True)
class Message:
    """One of our messages, and where to find its comments."""

    proto: DescriptorProto
    comments: Comments
    index: int

    def text(self) -> str:
        """Returns the comment of the message."""
        return self.comments.text(4, self.index)

    def field_text(self, position: int) -> str:
        """Returns the comment of a field."""
        return self.comments.text(4, self.index, 2, position)


Messages = dict[str, Message]


def files_of_ours(files: FileDescriptorSet) -> list[FileDescriptorProto]:
    """Returns the files of our own package, except the one that only declares options."""
    return [
        file
        for file in files.file
        if file.package.startswith("image_categorizer.") and not file.name.endswith("options.proto")
    ]


def messages(files: FileDescriptorSet) -> Messages:
    """Returns our messages by full name (`.package.Name`)."""
    return {
        f".{file.package}.{message.name}": Message(message, Comments(file), index)
        for file in files_of_ours(files)
        for index, message in enumerate(file.message_type)
    }


def enums(files: FileDescriptorSet) -> dict[str, EnumDescriptorProto]:
    """Returns our enums by full name (`.package.Name` or `.package.Message.Name`)."""
    found = {
        f".{file.package}.{enum.name}": enum
        for file in files_of_ours(files)
        for enum in file.enum_type
    }
    for name, message in messages(files).items():
        found |= {f"{name}.{enum.name}": enum for enum in message.proto.enum_type}
    return found


class Schemas:
    """The schemas of all our messages."""

    def __init__(self, files: FileDescriptorSet, requests: Iterable[str]) -> None:
        """Prepares the schemas.

        Args:
            files: the protos.
            requests: full names of those that clients send.
        """
        self._known = messages(files)
        self._enums = enums(files)
        self._in_requests: set[str] = set()
        for request in requests:
            self._add_request(request)

    def _add_request(self, name: str) -> None:
        """Notes a message that clients send, and the messages in it."""
        if name in self._known and name not in self._in_requests:
            self._in_requests.add(name)
            for field in self._known[name].proto.field:
                self._add_request(field.type_name)

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

    def message(self, name: str, message: Message) -> Json:
        """Returns the schema of one message.

        In answers, the gateway prints all fields except those that may be absent: they are
        `optional` in the proto, or part of a `oneof`.
        """
        properties = {
            field.name: self.field(field, message.field_text(position))
            for position, field in enumerate(message.proto.field)
        }
        schema: Json = {"type": "object", "description": message.text(), "properties": properties}
        if name not in self._in_requests:
            required = [f.name for f in message.proto.field if not f.HasField("oneof_index")]
            schema |= {"required": required} if required else {}
        return schema

    def all(self) -> Json:
        """Returns every schema by the message's name, except of messages with an HTTP body."""
        schemas = {
            message.proto.name: self.message(name, message)
            for name, message in self._known.items()
            if not any(field.type_name == HTTP_BODY for field in message.proto.field)
        }
        return {**schemas, "Status": STATUS}


def reference(type_name: str) -> Json:
    """Returns a reference to a message's schema."""
    return {"$ref": f"#/components/schemas/{type_name.rsplit('.', 1)[1]}"}
