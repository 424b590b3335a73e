"""One image in an HTTP body, as the request of the sibling RPC that takes JSON.

The body is JSON, a form, or the image itself; query parameters are fields of the message already.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from image_categorizer.v1 import classify_pb2, embedding_pb2, image_pb2

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.encoding import GZIP, unpacked
from image_categorizer_server.rpc.fields import Fields
from image_categorizer_server.rpc.forms import (
    IMAGE_FIELD,
    is_encoded_form,
    is_form,
    read_encoded_form,
    read_image_form,
)
from image_categorizer_server.rpc.json_body import (
    decoded_image,
    image_of_text,
    is_data_url,
    is_json,
    read_json,
)
from image_categorizer_server.rpc.options import copy_fields

Upload = classify_pb2.ClassifyUploadRequest | image_pb2.UploadImageBodyRequest
WithImage = Upload | embedding_pb2.EmbedUploadRequest
"""A request with one image in its body."""
Read = TypeVar("Read")
Request = TypeVar("Request", classify_pb2.ClassifyRequest, image_pb2.UploadImageRequest)
# Reading a larger body takes longer than the switch to a thread.
THREAD_FROM_BYTES = 2**20


async def read_upload(upload: Upload, request: Request, max_bytes: int) -> Request:
    """Returns the request that a body and the query parameters make together.

    Args:
        upload: has the body and the query parameters.
        request: an empty request of the sibling RPC; it is filled.
        max_bytes: of the body, after it is unpacked.

    Raises:
        InvalidRequest: the body is malformed, or a field is invalid or given twice.
        ImageTooLarge: the body is too large when it is unpacked.
    """
    return await read_unpacked(upload, lambda: read_body(upload, request), max_bytes)


async def read_unpacked(upload: WithImage, read: Callable[[], Read], max_bytes: int) -> Read:
    """Returns what is read of a body once it is unpacked; a large one is read in a thread.

    Args:
        upload: has the body.
        read: reads it.
        max_bytes: of the body, after it is unpacked.

    Raises:
        InvalidRequest: the body is malformed, or what `read` raises.
        ImageTooLarge: the body is too large when it is unpacked.
    """

    def unpack_and_read() -> Read:
        if current_call.get().body_encoding == GZIP:
            upload.body.data = unpacked(upload.body.data, max_bytes)
        return read()

    if len(upload.body.data) < THREAD_FROM_BYTES:
        return unpack_and_read()
    return await asyncio.to_thread(unpack_and_read)


def image_in(upload: WithImage) -> bytes | None:
    """Returns the image in a body that is no JSON: a form, a data URL, or the image itself.

    Other fields of a form become fields of the request.

    Raises:
        InvalidRequest: the form is malformed, or a field is invalid or given twice.
    """
    kind, data = upload.body.content_type, upload.body.data
    if is_form(kind):
        return read_image_form(kind, data, upload)
    if is_encoded_form(kind, data, upload):
        return read_encoded_form(data, upload)
    return decoded_image(data, IMAGE_FIELD) if is_data_url(data) else data


def read_body(upload: Upload, request: Request) -> Request:
    """Returns the request that an unpacked body and the query parameters make together.

    Raises:
        InvalidRequest: the body is malformed, or a field is invalid or given twice.
    """
    kind, data = upload.body.content_type, upload.body.data
    others = _other_sources(request)
    if is_json(kind) and (data.strip() or not any(getattr(upload, name) for name in others)):
        return _of_json(upload, request, data)
    image = image_in(upload)
    _fill(upload, request)
    return _with_image(request, image, [name for name in others if getattr(upload, name)])


def _of_json(upload: Upload, request: Request, data: bytes) -> Request:
    others = _other_sources(request)
    given = {name for name in others if getattr(upload, name)}
    _fill(upload, request)
    fields = Fields(request, (IMAGE_FIELD,), kind="JSON body")
    image = None
    for name, value in read_json(data).items():
        if name == IMAGE_FIELD:
            image = None if value is None else image_of_text(value, IMAGE_FIELD)
        else:
            fields.set(name, value)
            if value and fields.find(name).name in others:
                given.add(fields.find(name).name)
    _refuse_several(image, given)
    fields.finish()
    return _with_image(request, image, given)


def _fill(upload: Upload, request: Request) -> None:
    """Copies the query parameters, and what a form has added to them."""
    copy_fields(upload, request)
    if isinstance(request, classify_pb2.ClassifyRequest):
        copy_fields(upload, request.options)


def _other_sources(request: Request) -> list[str]:
    """Returns the fields that may name an image instead of a body."""
    source = request.DESCRIPTOR.oneofs_by_name["source"]
    return [field.name for field in source.fields if field.name != IMAGE_FIELD]


def _refuse_several(image: bytes | None, others: Iterable[str]) -> None:
    given = [*([IMAGE_FIELD] if image else []), *sorted(others)]
    if len(given) > 1:
        raise InvalidRequest.of([(given[0], f"and {given[1]} exclude each other")])


def _with_image(request: Request, image: bytes | None, others: Iterable[str]) -> Request:
    """Adds the image, which may be empty if the request names one in another way."""
    _refuse_several(image, others)
    if image is not None and not others:
        request.image = image
    return request
