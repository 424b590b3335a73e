"""Uploads of one image in parts, which resume where they were interrupted.

    create ─▶ append, append, … ─▶ the last part: all bytes are verified ─▶ a stored image
      └─▶ the client puts the whole image into the bucket ─▶ complete ─▶ a stored image

The last part is not stored as a part.  It counts once the image is stored, so whoever gets no
answer sends it again.
"""

import asyncio
import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NoReturn

from image_categorizer_server import clock
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import image_upload as rows
from image_categorizer_server.domain.image import NewImage
from image_categorizer_server.domain.image_upload import ImageUpload, NewUpload, UploadPart
from image_categorizer_server.errors import (
    DependencyDown,
    FailedPrecondition,
    ImageTooLarge,
    InvalidRequest,
    NotFound,
    UploadIncomplete,
    UploadNotFound,
    UploadOffsetWrong,
)
from image_categorizer_server.services.image import Images, last_part
from image_categorizer_server.settings.image_upload import ImageUploadSettings
from image_categorizer_server.stores.image_key import subject_folder
from image_categorizer_server.stores.object_store import SignedRequest, Storage

ID_BYTES = 18
SHA256 = re.compile(r"[0-9a-f]{64}")
# Much longer than a write to the storage may take.
PART_LEASE = timedelta(seconds=300)
READ_AT_ONCE = 8
EXPIRED_PER_SWEEP = 500


@dataclass(frozen=True, slots=True)
class CreatedUpload:
    """An upload, and how a client may send the whole image to the bucket."""

    upload: ImageUpload
    put: SignedRequest | None
    """None if the client has to send parts."""


class ImageUploads:
    """What callers can do with uploads.  Each sees and changes only those of its own tenant."""

    def __init__(
        self,
        images: Images,
        subjects: Subjects,
        storage: Storage,
        settings: ImageUploadSettings,
        max_image_bytes: int,
    ) -> None:
        """Configures the service.

        Args:
            images: stores images.
            subjects: makes keys of subjects.
            storage: keeps the parts.
            settings: of uploads.
            max_image_bytes: the maximum size of an image.
        """
        self._images = images
        self._subjects = subjects
        self._storage = storage
        self._settings = settings
        self._max_image_bytes = max_image_bytes

    async def create(self, tenant_id: str, new: NewUpload) -> CreatedUpload:
        """Creates an upload, or finds the unfinished one of the same bytes and subject.

        An upload of bytes that are stored already is complete at once.

        Raises:
            InvalidRequest: names each field that is not valid.
            ImageTooLarge: the image is too large.
            FailedPrecondition: the server keeps nothing about subjects.
            QuotaExceeded: the tenant has too many unfinished uploads.
            SubjectErased: the subject was erased.
            DependencyDown: the database does not answer.
        """
        self._check(new)
        image = new.image
        subject_key = self._subjects.key_of(tenant_id, image.subject_id)
        now = clock.now()
        upload = ImageUpload(
            tenant_id=tenant_id,
            upload_id=f"u-{secrets.token_urlsafe(ID_BYTES)}",
            subject_key=subject_key,
            subject_id=self._subjects.reference_of(tenant_id, image.subject_id),
            size_bytes=new.size_bytes,
            sha256=new.sha256,
            filename=last_part(image.filename),
            tags=image.tags,
            keep_metadata=image.keep_metadata,
            create_time=now,
            expire_time=now + timedelta(seconds=self._settings.lifetime_s),
        )
        stored = await self._images.find(tenant_id, subject_key, new.sha256) if new.sha256 else None
        put = None
        if stored:
            upload = replace(upload, image_id=stored.image_id, received_bytes=new.size_bytes)
        elif put := await self._sign(whole := replace(upload, object_key=_key(upload, "whole"))):
            upload = whole
        made = await rows.create(upload, self._settings.max_unfinished)
        return CreatedUpload(made, put if made is upload else await self._sign(made))

    def _check(self, new: NewUpload) -> None:
        self._images.check(new.image)
        wrong = []
        if new.size_bytes < 1:
            wrong.append(("size_bytes", "is required, and at least 1"))
        if new.sha256 and not SHA256.fullmatch(new.sha256):
            wrong.append(("sha256", "must be 64 hexadecimal digits, in lower case"))
        if wrong:
            raise InvalidRequest.of(wrong)
        if new.size_bytes > self._max_image_bytes:
            raise ImageTooLarge.over(self._max_image_bytes)

    async def _sign(self, upload: ImageUpload) -> SignedRequest | None:
        """Returns the request by which a client puts the whole image; None if it may not.

        What arrives after the erasure of a subject would be found by nobody, so uploads about
        subjects have none.

        Raises:
            DependencyDown: the store's signing service does not answer.
        """
        if not upload.object_key or upload.subject_key:
            return None
        # What is put at the last moment arrives long before the upload expires and is removed.
        expires_s = min(self._settings.url_lifetime_s, self._settings.lifetime_s / 2)
        with suppress(FailedPrecondition):  # of a storage that signs nothing
            return await self._storage.presign_put(upload.object_key, expires_s)
        return None

    async def get(self, tenant_id: str, upload_id: str) -> ImageUpload:
        """Returns an upload.

        Raises:
            UploadNotFound: the tenant has no such upload, or it has expired.
            DependencyDown: the database does not answer.
        """
        upload = await rows.get(tenant_id, upload_id, clock.now())
        if upload is None:
            raise UploadNotFound("no such upload, or it has expired")
        return upload

    async def append(
        self, tenant_id: str, upload_id: str, offset_bytes: int, content: bytes
    ) -> ImageUpload:
        """Adds a part; the last one completes the upload.

        Raises:
            UploadNotFound: the tenant has no such upload, or it has expired.
            UploadOffsetWrong: the upload is at another byte, or complete.
            InvalidRequest: the part is empty, too long, or one too many; or the whole image is not
                what was announced, or cannot be decoded.
            QuotaExceeded: the tenant stores too much.
            SubjectErased: the subject was erased.
            DependencyDown: the database or the storage does not answer.
        """
        upload = await self.get(tenant_id, upload_id)
        _check_offset(upload, offset_bytes)
        end_bytes = offset_bytes + len(content)
        if not content:
            raise InvalidRequest.of([("body", "must have at least one byte")])
        if end_bytes > upload.size_bytes:
            text = f"ends at byte {end_bytes} of {upload.size_bytes}"
            raise InvalidRequest.of([("body", text)])
        if end_bytes == upload.size_bytes:
            return await self._complete(upload, await self._read_parts(upload) + content)
        part = UploadPart(_key(upload, secrets.token_urlsafe(ID_BYTES)), offset_bytes, len(content))
        if not await rows.begin_part(upload, part, clock.now() + PART_LEASE):
            _check_offset(await self.get(tenant_id, upload_id), offset_bytes)
            text = (
                f"is one part too many: at most {rows.MAX_PARTS} are allowed, so send larger ones"
            )
            raise InvalidRequest.of([("body", text)])
        await self._storage.put(part.object_key, content)
        await self._storage.flush()
        return await rows.end_part(upload, part) or await self._moved(upload)

    async def _read_parts(self, upload: ImageUpload) -> bytes:
        """Returns the bytes that are there.

        Raises:
            DependencyDown: the database or the storage does not answer.
            NotFound: the storage has lost a part.
        """
        parts = await rows.list_parts(upload)
        slots = asyncio.Semaphore(READ_AT_ONCE)

        async def read(part: UploadPart) -> bytes:
            async with slots:
                return await self._storage.get(part.object_key, part.size_bytes)

        content = b"".join(await asyncio.gather(*map(read, parts)))
        if len(content) != upload.received_bytes:  # another call has completed it meanwhile
            await self._moved(upload)
        return content

    async def complete(self, tenant_id: str, upload_id: str) -> ImageUpload:
        """Completes an upload whose image the client has put into the bucket.

        Raises:
            UploadNotFound: the tenant has no such upload, or it has expired.
            UploadIncomplete: the bytes are not there, or not all.
            InvalidRequest: the image is not what was announced, or cannot be decoded.
            QuotaExceeded: the tenant stores too much.
            SubjectErased: the subject was erased.
            DependencyDown: the database or the storage does not answer.
        """
        upload = await self.get(tenant_id, upload_id)
        if upload.image_id:
            return upload
        there, content = upload.received_bytes, b""
        if upload.object_key:
            with suppress(NotFound):
                content = await self._storage.get(upload.object_key, upload.size_bytes)
        if len(content) < upload.size_bytes:
            text = f"{max(there, len(content))} of {upload.size_bytes} bytes are there"
            raise UploadIncomplete(text)
        done = await self._complete(upload, content)
        # Its row still names it: what is put there again goes when the upload expires.
        await self._storage.delete([upload.object_key])
        return done

    async def _complete(self, upload: ImageUpload, content: bytes) -> ImageUpload:
        if upload.sha256 and upload.sha256 != hashlib.sha256(content).hexdigest():
            text = "the bytes that arrived have another one: cancel the upload, and begin again"
            raise InvalidRequest.of([("sha256", text)])
        new = NewImage(
            content, upload.filename, upload.tags, upload.subject_id, upload.keep_metadata
        )
        image = await self._images.store(upload.tenant_id, new)
        return await rows.finish(upload, image.image_id, clock.now()) or await self._moved(upload)

    async def _moved(self, upload: ImageUpload) -> NoReturn:
        """Says what another call has done to an upload meanwhile.

        Raises:
            UploadNotFound: it is gone.
            UploadOffsetWrong: it is complete, or at another byte.
            DependencyDown: it is as before.
        """
        found = await self.get(upload.tenant_id, upload.upload_id)
        _check_offset(found, upload.received_bytes)
        raise DependencyDown("the upload is being changed by another call")

    async def cancel(self, tenant_id: str, upload_id: str) -> None:
        """Forgets an upload.  An image that it has become stays.

        Raises:
            UploadNotFound: the tenant has no such upload.
            DependencyDown: the database does not answer.
        """
        if not await rows.remove(tenant_id, upload_id, clock.now()):
            raise UploadNotFound("no such upload, or it has expired")


async def remove_expired_uploads() -> int:
    """Removes expired uploads of all tenants; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await rows.remove_expired(clock.now(), EXPIRED_PER_SWEEP)


def _key(upload: ImageUpload, name: str) -> str:
    """Returns where a part is stored: beside the images of its subject, and erased with them."""
    folder = subject_folder(upload.tenant_id, upload.subject_key)
    return f"{folder}/uploads/{upload.upload_id}/{name}"


def _check_offset(upload: ImageUpload, offset_bytes: int) -> None:
    if upload.image_id:
        raise UploadOffsetWrong("the upload is complete")
    if upload.received_bytes != offset_bytes:
        raise UploadOffsetWrong(f"the upload is at byte {upload.received_bytes}")
