"""Fields of a form that stand for fields of a message: the message itself says what they are."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from image_categorizer_server.errors import InvalidRequest

BODY = "body"
MOST_TEXT_BYTES = 4096
MOST_NAME_CHARACTERS = 64
SWITCHES = {"true": True, "false": False}
NUMBERS = {FieldDescriptor.TYPE_FLOAT: float, FieldDescriptor.TYPE_INT32: int}


class FormFields:
    """Fills a message from text fields, which replace those of the same name in it."""

    def __init__(self, request: Message, files: tuple[str, ...]) -> None:
        """Begins a form.

        Args:
            request: the message; all its fields but `body` may be in the form.
            files: the fields that hold files, to name them where one is unknown.
        """
        self._request: Any = request
        self._files = files
        self._fields: dict[str, Any] = {
            field.name: field for field in request.DESCRIPTOR.fields if field.name != BODY
        }
        self._cleared: set[str] = set()

    def check_name(self, name: str) -> None:
        """Passes the name of a text field.

        Raises:
            InvalidRequest: there is no such field.
        """
        if name not in self._fields:
            known = ", ".join([*self._files, *sorted(self._fields)])
            text = f"is not a field of the form; fields are {known}"
            raise InvalidRequest.of([(name[:MOST_NAME_CHARACTERS], text)])

    def set(self, name: str, content: bytes) -> None:
        """Takes one text field.

        Raises:
            InvalidRequest: there is no such field, or it is not what it must be.
        """
        self.check_name(name)
        if len(content) > MOST_TEXT_BYTES:
            raise InvalidRequest.of([(name, f"must have at most {MOST_TEXT_BYTES} bytes")])
        if name not in self._cleared:
            self._request.ClearField(name)
            self._cleared.add(name)
        field = self._fields[name]
        try:
            text = content.decode()
            if field.is_repeated:
                getattr(self._request, name).append(text)
            else:
                setattr(self._request, name, _value(field, text))
        except ValueError:
            raise InvalidRequest.of([(name, f"must be {_kind(field)}")]) from None


def _value(field: FieldDescriptor, text: str) -> str | float | bool:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in SWITCHES:
            raise ValueError(text)
        return SWITCHES[text]
    return NUMBERS[field.type](text) if field.type in NUMBERS else text


def _kind(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true or false"
    return "a number" if field.type in NUMBERS else "UTF-8 text"
