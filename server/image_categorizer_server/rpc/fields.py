"""Sets fields of a message from text or JSON: one rule for query parameters, forms and JSON bodies.

- A name is the proto's (`top_k`) or its JSON form (`topK`).
- A boolean is `true` or `false`, also `yes`, `no`, `1`, `0` and the first letters, in any case.
- Blanks around a value are dropped. An empty value, and null in JSON, mean that it is not given.
- A field may be given in the query and in the body, with equal values.

The gateway reads query parameters into the message before.
"""

import re
from collections.abc import Mapping, Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from image_categorizer_server.errors import InvalidRequest

MAX_SHOWN_NAME_CHARACTERS = 64
BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "0"), False
)
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
MAX_NUMBER_CHARACTERS = 64
EXPECTED = {
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_INT32: "a number",
    FieldDescriptor.TYPE_FLOAT: "a number",
    FieldDescriptor.TYPE_STRING: "UTF-8 text",
    FieldDescriptor.TYPE_MESSAGE: "an object",
}
Scalar = str | int | float | bool


def shown(name: str) -> str:
    """Returns a name from outside as it may appear in an error message."""
    return name[:MAX_SHOWN_NAME_CHARACTERS]


class Fields:
    """Sets fields of a message whose other fields come from the query.

    Values are collected, then `finish` puts them into the message.
    """

    def __init__(
        self, message: Message, others: Sequence[str] = (), prefix: str = "", kind: str = "form"
    ) -> None:
        """Prepares to set fields.

        Args:
            message: receives the values. May have all its scalar fields, and messages of these.
            others: names that the caller reads itself, for error messages.
            prefix: precedes the names in error messages, such as `options.`.
            kind: what the values come from, for error messages.
        """
        self._message = message
        self._given = type(message)()
        self._names: set[str] = set()
        self._others = tuple(others)
        self._prefix = prefix
        self._kind = kind
        self._known: dict[str, FieldDescriptor] = {}
        for field in message.DESCRIPTOR.fields:
            if field.name not in self._others and not _is_left_out(field):
                self._known[field.name] = self._known[field.json_name] = field  # type: ignore[assignment]

    def find(self, name: str) -> FieldDescriptor:
        """Returns the field of a name.

        Raises:
            InvalidRequest: the message has no such field.
        """
        if field := self._known.get(name):
            return field
        names = sorted({field.name for field in self._known.values()})
        listed = ", ".join([*self._others, *names])
        text = f"is not a field of the {self._kind}; fields are {listed}"
        for field in self._known.values():
            if field.message_type is not None and name in field.message_type.fields_by_name:
                text = f"belongs into {field.name}"
        raise InvalidRequest.of([(f"{self._prefix}{shown(name)}", text)])

    def set(self, name: str, value: object) -> None:
        """Sets a field. Repeated fields keep all values that they are given.

        Args:
            name: of the field.
            value: text, or a value of JSON.

        Raises:
            InvalidRequest: there is no such field, the value has the wrong type, or the field has
                another value already.
        """
        field = self.find(name)
        if field.message_type is not None:
            self._set_message(field, value)
        elif field.is_repeated:
            values = value if isinstance(value, list) else [value]
            found = [self._scalar(field, one) for one in values]
            if kept := [one for one in found if one is not None]:
                self._names.add(field.name)
                getattr(self._given, field.name).extend(kept)
        elif (one := self._scalar(field, value)) is not None:
            if field.name in self._names and getattr(self._given, field.name) != one:
                raise self._twice(field)
            self._names.add(field.name)
            try:
                setattr(self._given, field.name, one)
            except ValueError:  # out of range, or text with half a surrogate pair
                raise self._wrong(field) from None

    def finish(self) -> None:
        """Puts the values into the message.

        Raises:
            InvalidRequest: the query has another value.
        """
        from_query = {field.name for field, _ in self._message.ListFields()}
        for name in self._names:
            new = getattr(self._given, name)
            if name in from_query:
                if getattr(self._message, name) != new:
                    raise self._twice(self._known[name])
            elif self._known[name].is_repeated:
                getattr(self._message, name).extend(new)
            else:
                setattr(self._message, name, new)

    def _set_message(self, field: FieldDescriptor, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, Mapping):
            raise self._wrong(field)
        inner = getattr(self._message, field.name)
        fields = Fields(inner, (), f"{self._prefix}{field.name}.", self._kind)
        for name, one in value.items():
            fields.set(name, one)
        fields.finish()

    def _scalar(self, field: FieldDescriptor, value: object) -> Scalar | None:
        """Returns a value of the field's type; None if it is empty."""
        if isinstance(value, str):
            value = value.strip()
        if value is None or value == "":
            return None
        found = _converted(field, value)
        if found is None:
            raise self._wrong(field)
        return found

    def _wrong(self, field: FieldDescriptor) -> InvalidRequest:
        return InvalidRequest.of(
            [(f"{self._prefix}{field.name}", f"must be {EXPECTED[field.type]}")]
        )

    def _twice(self, field: FieldDescriptor) -> InvalidRequest:
        text = "is given twice, with different values"
        return InvalidRequest.of([(f"{self._prefix}{field.name}", text)])


def _is_left_out(field: object) -> bool:
    """Returns whether a field is bytes, or a list of messages: those are read elsewhere."""
    assert isinstance(field, FieldDescriptor)
    is_list = field.message_type is not None and field.is_repeated
    return field.type == FieldDescriptor.TYPE_BYTES or is_list or field.name == "body"


def _converted(field: FieldDescriptor, value: object) -> Scalar | None:
    """Returns a value as the field's type; None if it cannot be one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = str(value) if isinstance(value, str | int | float) else ""
    short = text if len(text) <= MAX_NUMBER_CHARACTERS else ""
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return BOOLEANS.get(short.lower())
        case FieldDescriptor.TYPE_INT32:
            whole = str(int(value)) if isinstance(value, float) and value.is_integer() else short
            is_bool = isinstance(value, bool)
            return int(whole) if INTEGER.fullmatch(whole) and not is_bool else None
        case FieldDescriptor.TYPE_FLOAT:
            is_bool = isinstance(value, bool)
            return float(short) if NUMBER.fullmatch(short) and not is_bool else None
    # A version is text, but people write it as a number.
    return text if isinstance(value, str) or is_number else None
