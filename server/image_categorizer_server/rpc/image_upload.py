"""Uploads of one image in parts, for our own clients and for those of tus 1.0.

A REST client of tus (https://tus.io/protocols/resumable-upload, core, creation and termination)
says what it wants in headers, and reads headers.  `Tus-Resumable` marks it.

IETF's successor, "Resumable Uploads for HTTP", is a draft, and needs informational responses (104),
which a gateway that translates gRPC cannot send.
"""

import base64
import binascii
import re
from typing import Any

import grpc
from image_categorizer.v1 import image_upload_pb2

from image_categorizer_server.domain.image import NewImage
from image_categorizer_server.domain.image_upload import ImageUpload, NewUpload
from image_categorizer_server.errors import InvalidRequest, UploadNotFound
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.image import check_is_admin
from image_categorizer_server.rpc.validation import IDENTIFIER, raise_if_any, required
from image_categorizer_server.services.image_upload import CreatedUpload, ImageUploads

Context = grpc.aio.ServicerContext
TUS = "tus-resumable"
TUS_VERSION = "1.0.0"
LENGTH, METADATA, OFFSET = "upload-length", "upload-metadata", "upload-offset"
NUMBER = re.compile(r"\d{1,10}", re.ASCII)
MAX_BYTES = 2**32 - 1
CREATED, NO_CONTENT, PRECONDITION_FAILED = 201, 204, 412
TEXTS = frozenset({"filename", "sha256", "subject_id"})
PATH = "/v1/uploads/"


class ImageUploadServicer:
    """Serves uploads of one image in parts."""

    def __init__(self, uploads: ImageUploads) -> None:
        self._uploads = uploads

    async def CreateUpload(
        self,
        request: image_upload_pb2.CreateUploadRequest,
        context: Context[image_upload_pb2.CreateUploadRequest, image_upload_pb2.Upload],
    ) -> image_upload_pb2.Upload:
        headers = _headers(context)
        if is_tus(headers):
            fill(request, headers)
        if request.keep_metadata:
            check_is_admin("keep_metadata")
        image = NewImage(
            b"",
            request.filename,
            tuple(sorted(set(request.tags))),
            request.subject_id,
            request.keep_metadata,
        )
        new = NewUpload(request.size_bytes, request.sha256.lower(), image)
        created = await self._uploads.create(current_tenant(), new)
        _answer(created.upload, headers, CREATED)
        return created_to_wire(created)

    async def GetUpload(
        self,
        request: image_upload_pb2.GetUploadRequest,
        context: Context[image_upload_pb2.GetUploadRequest, image_upload_pb2.Upload],
    ) -> image_upload_pb2.Upload:
        headers = _headers(context)
        is_tus(headers)
        upload = await self._uploads.get(current_tenant(), _upload_id_of(request.upload_id))
        _answer(upload, headers)
        return upload_to_wire(upload)

    async def AppendUpload(
        self,
        request: image_upload_pb2.AppendUploadRequest,
        context: Context[image_upload_pb2.AppendUploadRequest, image_upload_pb2.Upload],
    ) -> image_upload_pb2.Upload:
        headers = _headers(context)
        is_tus(headers)
        offset = request.offset if request.HasField("offset") else number(headers, OFFSET)
        if offset is None:
            raise InvalidRequest.of([("offset", "is required, or the header Upload-Offset")])
        upload = await self._uploads.append(
            current_tenant(), _upload_id_of(request.upload_id), offset, request.body.data
        )
        _answer(upload, headers, NO_CONTENT)
        return upload_to_wire(upload)

    async def CompleteUpload(
        self,
        request: image_upload_pb2.CompleteUploadRequest,
        context: Context[image_upload_pb2.CompleteUploadRequest, image_upload_pb2.Upload],
    ) -> image_upload_pb2.Upload:
        upload_id = _upload_id_of(request.upload_id)
        return upload_to_wire(await self._uploads.complete(current_tenant(), upload_id))

    async def CancelUpload(
        self,
        request: image_upload_pb2.CancelUploadRequest,
        context: Context[
            image_upload_pb2.CancelUploadRequest, image_upload_pb2.CancelUploadResponse
        ],
    ) -> image_upload_pb2.CancelUploadResponse:
        headers = _headers(context)
        await self._uploads.cancel(current_tenant(), _upload_id_of(request.upload_id))
        if is_tus(headers):
            status = ("x-http-status", str(NO_CONTENT))
            current_call.get().fields = ((TUS, TUS_VERSION), status)
        return image_upload_pb2.CancelUploadResponse()


def is_tus(headers: dict[str, str]) -> bool:
    """Returns whether a client speaks tus.

    Raises:
        InvalidRequest: it speaks another version; its HTTP status is 412.
    """
    version = headers.get(TUS)
    if version not in (None, TUS_VERSION):
        current_call.get().http_status = PRECONDITION_FAILED
        raise InvalidRequest.of([("Tus-Resumable", f"must be {TUS_VERSION}")])
    return version is not None


def number(headers: dict[str, str], name: str) -> int | None:
    """Returns the number in a header; None if it is missing.

    Raises:
        InvalidRequest: it is none, or too large.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not NUMBER.fullmatch(text) or int(text) > MAX_BYTES:
        raise InvalidRequest.of([(name.title(), f"must be a number from 0 to {MAX_BYTES}")])
    return int(text)


def fill(request: image_upload_pb2.CreateUploadRequest, headers: dict[str, str]) -> None:
    """Sets the fields that the headers of tus give; other metadata of the client is ignored.

    Raises:
        InvalidRequest: a header is malformed.
    """
    length = number(headers, LENGTH)
    if length is not None:
        request.size_bytes = length
    wrong: list[tuple[str, str]] = []
    for pair in filter(None, (part.strip() for part in headers.get(METADATA, "").split(","))):
        name, _, encoded = pair.partition(" ")
        if name not in TEXTS and name != "tags":
            continue
        try:
            value = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            wrong.append(("Upload-Metadata", f"{name} must be text in base64"))
            continue
        if name == "tags":
            request.tags.extend(tag.strip() for tag in value.split(",") if tag.strip())
        else:
            setattr(request, name, value)
    raise_if_any(wrong)


def created_to_wire(created: CreatedUpload) -> image_upload_pb2.Upload:
    """Returns a created upload as a message, with the address to which a client may put it."""
    message = upload_to_wire(created.upload)
    if created.put:
        message.put_url = created.put.url
        for name, value in created.put.headers.items():
            message.put_headers.add(name=name, value=value)
    return message


def upload_to_wire(value: ImageUpload) -> image_upload_pb2.Upload:
    """Returns an upload as a message."""
    return image_upload_pb2.Upload(
        upload_id=value.upload_id,
        size_bytes=value.size_bytes,
        offset=value.received_bytes,
        sha256=value.sha256,
        image_id=value.image_id,
        create_time=convert.timestamp(value.create_time),
        expire_time=convert.timestamp(value.expire_time),
    )


def _answer(upload: ImageUpload, headers: dict[str, str], status: int = 0) -> None:
    """Sets the headers of the answer; clients of tus get the HTTP status that tus wants."""
    fields = [
        (OFFSET, str(upload.received_bytes)),
        (LENGTH, str(upload.size_bytes)),
        ("cache-control", "no-store"),
    ]
    if is_tus(headers):
        fields.append((TUS, TUS_VERSION))
        if status:
            fields.append(("x-http-status", str(status)))
        if status == CREATED:
            fields.append(("x-location", f"{PATH}{upload.upload_id}"))
    current_call.get().fields = tuple(fields)


def _headers(context: Context[Any, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in context.invocation_metadata() or ()}


def _upload_id_of(text: str) -> str:
    wrong: list[tuple[str, str]] = []
    required("upload_id", text, wrong)
    raise_if_any(wrong)
    if not IDENTIFIER.fullmatch(text):
        raise UploadNotFound("no such upload, or it has expired")
    return text
