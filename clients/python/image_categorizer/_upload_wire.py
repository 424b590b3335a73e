"""Converts between the clients' values about uploads in parts and protobuf messages."""

from collections.abc import Iterable
from datetime import UTC

from google.api import httpbody_pb2

from image_categorizer._image_wire import words
from image_categorizer._upload_values import Upload
from image_categorizer.v1 import image_upload_pb2


def create_request(
    size_bytes: int,
    sha256: str,
    filename: str,
    tags: Iterable[str],
    subject_id: str,
    keep_metadata: bool,
) -> image_upload_pb2.CreateUploadRequest:
    """Returns the request to begin an upload."""
    return image_upload_pb2.CreateUploadRequest(
        size_bytes=size_bytes,
        sha256=sha256,
        filename=filename,
        tags=words(tags),
        subject_id=subject_id,
        keep_metadata=keep_metadata,
    )


def append_request(
    upload_id: str, offset: int, part: bytes
) -> image_upload_pb2.AppendUploadRequest:
    """Returns the request to add a part."""
    body = httpbody_pb2.HttpBody(content_type="application/octet-stream", data=part)
    return image_upload_pb2.AppendUploadRequest(upload_id=upload_id, offset=offset, body=body)


def upload(wire: image_upload_pb2.Upload) -> Upload:
    """Returns an upload."""
    return Upload(
        upload_id=wire.upload_id,
        size_bytes=wire.size_bytes,
        offset=wire.offset,
        sha256=wire.sha256,
        image_id=wire.image_id,
        create_time=wire.create_time.ToDatetime(UTC),
        expire_time=wire.expire_time.ToDatetime(UTC),
        put_url=wire.put_url,
        put_headers={header.name: header.value for header in wire.put_headers},
    )
