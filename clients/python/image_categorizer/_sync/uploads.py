# Generated from _aio/uploads.py by tools/sync_twin.py; do not edit.
"""The client's uploads of one image in parts."""

import hashlib
import time
from collections.abc import Iterable

from image_categorizer import _upload_wire
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.runtime import sleep
from image_categorizer._upload_values import Upload
from image_categorizer.errors import DeadlineExceeded, Unavailable, UploadOffsetWrong
from image_categorizer.v1 import image_upload_pb2

FIRST_WAIT_S, MAX_WAIT_S = 0.5, 10.0


class Uploads:
    """Uploads of one image in parts: `client.uploads`.

    `client.images.upload_file` makes one of a file, and resumes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        size_bytes: int,
        *,
        sha256: str = "",
        filename: str = "",
        tags: Iterable[str] = (),
        subject_id: str = "",
        keep_metadata: bool = False,
    ) -> Upload:
        """Begins an upload; with `sha256`, it finds the unfinished one of the same bytes.

        If the installation has a bucket, a browser without credentials may send the image to it:

            upload = client.uploads.create(len(photograph))
            ...  # PUT photograph to upload.put_url, with upload.put_headers
            upload = client.uploads.complete(upload.upload_id)

        Args:
            size_bytes: of the whole image.
            sha256: of the whole image, 64 hexadecimal digits. An upload of bytes that are stored
                already is complete at once.
            filename: the name of the file.
            tags: words of your own, at most 64.
            subject_id: whose image it is.
            keep_metadata: whether the bytes are stored as they are; for admins.

        Raises:
            ImageTooLarge: the image is larger than `Limits.max_image_bytes`.
            QuotaExceeded: too many uploads are unfinished.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _upload_wire.create_request(
            size_bytes, sha256, filename, tags, subject_id, keep_metadata
        )
        # Without the hash, a repeated call creates another upload, which expires.
        call = self._connection.call if sha256 else self._connection.call_once
        return _upload_wire.upload(call(self._connection.stubs.images.CreateUpload, request))

    def get(self, upload_id: str) -> Upload:
        """Returns an upload: how many bytes are there, and which image it has become.

        Raises:
            UploadNotFound: there is no such upload, or it has expired.
        """
        request = image_upload_pb2.GetUploadRequest(upload_id=upload_id)
        return _upload_wire.upload(
            self._connection.call(self._connection.stubs.images.GetUpload, request)
        )

    def append(self, upload_id: str, offset: int, part: bytes) -> Upload:
        """Adds the next part; the last one completes the upload.

        Args:
            upload_id: the upload.
            offset: where the part begins, in bytes: `Upload.offset`.
            part: at least one byte; an upload has at most 200 parts.

        Raises:
            UploadNotFound: there is no such upload, or it has expired.
            UploadOffsetWrong: the upload is at another byte: `get` says at which.
            UndecodableImage: the whole is not an image, or a damaged one.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _upload_wire.append_request(upload_id, offset, part)
        return _upload_wire.upload(
            self._connection.call(self._connection.stubs.images.AppendUpload, request)
        )

    def complete(self, upload_id: str) -> Upload:
        """Completes an upload whose image was sent to `put_url`.

        Raises:
            UploadNotFound: there is no such upload, or it has expired.
            UploadIncomplete: the bytes are not there, or not all.
            UndecodableImage: they are not an image, or a damaged one.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = image_upload_pb2.CompleteUploadRequest(upload_id=upload_id)
        return _upload_wire.upload(
            self._connection.call(self._connection.stubs.images.CompleteUpload, request)
        )

    def cancel(self, upload_id: str) -> None:
        """Forgets an upload; an image that it has become stays.

        Raises:
            UploadNotFound: there is no such upload, or it has expired.
        """
        request = image_upload_pb2.CancelUploadRequest(upload_id=upload_id)
        self._connection.call(self._connection.stubs.images.CancelUpload, request)

    def send(self, upload: Upload, content: bytes, part_bytes: int, patience_s: float) -> str:
        """Sends what is missing of an upload; returns the id of the image that it becomes.

        Args:
            upload: the upload, which may have begun.
            content: all bytes of the image.
            part_bytes: the size of a part.
            patience_s: for how long it tries again while no part arrives.

        Raises:
            Unavailable: the server was away for longer.
            CategorizerError: see `append`.
        """
        wait_s, progress_s = FIRST_WAIT_S, time.monotonic()
        while not upload.image_id:
            part = content[upload.offset : upload.offset + part_bytes]
            try:
                upload = self.append(upload.upload_id, upload.offset, part)
            except UploadOffsetWrong:  # an attempt has arrived whose answer was lost
                found = self.get(upload.upload_id)
                if (found.offset, found.image_id) == (upload.offset, upload.image_id):
                    raise
                upload = found
            except (Unavailable, DeadlineExceeded):
                if time.monotonic() - progress_s > patience_s:
                    raise
                sleep(wait_s)
                wait_s = min(2 * wait_s, MAX_WAIT_S)
                continue
            wait_s, progress_s = FIRST_WAIT_S, time.monotonic()
        return upload.image_id


def sha256_of(content: bytes) -> str:
    """Returns the SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
