"""UploadBatchForm with a JSON body: a request of CreateBatch, read in full before it is parsed."""

import asyncio
from collections.abc import AsyncIterator

from image_categorizer.v1 import batch_pb2

from image_categorizer_server.errors import BatchTooLarge, InvalidRequest
from image_categorizer_server.rpc.batch.form import config_in
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.encoding import CONTENT_TOO_LARGE
from image_categorizer_server.rpc.fields import Fields, shown
from image_categorizer_server.rpc.json_body import image_of_text, read_json
from image_categorizer_server.rpc.options import copy_fields

Request = batch_pb2.UploadBatchFormRequest
ITEMS = "items"
INSTEAD = "send many images as a form (multipart/form-data), and many URIs as several batches"
# Objects of a request beside its items, and braces in names and URIs.
MAX_OTHER_BRACES = 1000
ITEM_NAMES = {
    "image": "image",
    "image_uri": "image_uri",
    "imageUri": "image_uri",
    "filename": "filename",
    "blur": "blur",
}


class JsonBatch:
    """Reads JSON bodies of batches, one at a time: parsed JSON is several times as large."""

    def __init__(self, max_body_bytes: int, max_items: int) -> None:
        """Configures the reader.

        Args:
            max_body_bytes: of one body after it is unpacked.
            max_items: of one batch.
        """
        self._max_body_bytes = max_body_bytes
        self._max_items = max_items
        self._parsing = asyncio.Lock()

    async def read(self, requests: AsyncIterator[Request]) -> batch_pb2.CreateBatchRequest:
        """Returns the request that a body and the query parameters make together.

        Raises:
            InvalidRequest: the body is malformed, or a field is invalid or given twice.
            BatchTooLarge: the body has too many bytes or items.
        """
        query: Request | None = None  # the first message
        body = bytearray()
        async for message in requests:
            body += message.body.data
            if len(body) > self._max_body_bytes:
                current_call.get().http_status = CONTENT_TOO_LARGE
                text = f"the body has more than {self._max_body_bytes} bytes when it is unpacked"
                raise BatchTooLarge(f"{text}; {INSTEAD}")
            message.ClearField("body")
            query = message if query is None else query
        # What cannot be a batch within the limits is refused before it becomes many objects.
        if body.count(b"{") > self._max_items + MAX_OTHER_BRACES:
            raise BatchTooLarge(f"a batch has at most {self._max_items} images")
        async with self._parsing:
            return await asyncio.to_thread(_parsed, bytes(body), query or Request())


def _parsed(body: bytes, query: Request) -> batch_pb2.CreateBatchRequest:
    request = batch_pb2.CreateBatchRequest()
    copy_fields(config_in(query), request)
    found = read_json(body)
    fields = Fields(request, (ITEMS,), kind="JSON body")
    for name, value in found.items():
        if name != ITEMS:
            fields.set(name, value)
    fields.finish()
    items = found.get(ITEMS)
    if items is not None and not isinstance(items, list):
        raise InvalidRequest.of([(ITEMS, "must be a list of objects")])
    request.items.extend(_item(number, item) for number, item in enumerate(items or ()))
    return request


def _value(name: str, value: object, field: str) -> str | bytes | list[str]:
    """Returns the value of a field of an item.

    Raises:
        InvalidRequest: it is no text; `blur`, no list of texts.
    """
    if name == "blur":
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InvalidRequest.of([(field, "must be a list of texts")])
        return value
    if not isinstance(value, str):
        raise InvalidRequest.of([(field, "must be text")])
    return image_of_text(value, field) if name == "image" else value


def _item(number: int, item: object) -> batch_pb2.BatchItem:
    """Returns one item.

    Raises:
        InvalidRequest: it is no object, or a field is invalid.
    """
    if not isinstance(item, dict):
        raise InvalidRequest.of([(f"{ITEMS}[{number}]", "must be an object")])
    values: dict[str, str | bytes | list[str]] = {}
    for name, value in item.items():
        known = ITEM_NAMES.get(name)
        field = f"{ITEMS}[{number}].{known or shown(name)}"
        if known is None:
            text = "is not a field of an item; fields are image, image_uri, filename, blur"
            raise InvalidRequest.of([(field, text)])
        if value is None or value == "":
            continue
        if known in values:
            raise InvalidRequest.of([(field, "is given twice")])
        values[known] = _value(known, value, field)
    if "image" in values and "image_uri" in values:
        text = "and image_uri exclude each other"
        raise InvalidRequest.of([(f"{ITEMS}[{number}].image", text)])
    try:
        return batch_pb2.BatchItem(**values)  # type: ignore[arg-type]  # the names are the proto's
    except ValueError:  # half a surrogate pair
        raise InvalidRequest.of([(f"{ITEMS}[{number}]", "must be UTF-8 text")]) from None
