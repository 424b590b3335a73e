"""Stored images: each is stored once for a subject, with what was found in it.

bytes ─▶ picture ─▶ its row, with a lease ─▶ the storage ─▶ the row is finished
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.access.subject import MALFORMED, MAX_SUBJECT_CHARACTERS, Subjects
from image_categorizer_server.db import image as rows
from image_categorizer_server.domain.classification import Classification
from image_categorizer_server.domain.image import Image, ImageResult, NewImage, Picture, is_text
from image_categorizer_server.errors import DependencyDown, ImageNotFound, InvalidRequest
from image_categorizer_server.paging import (
    Page,
    limit_of,
    moment_and_text_of,
    page_from,
    token_of_moment,
)
from image_categorizer_server.stores.image_key import image_key
from image_categorizer_server.stores.object_store import Storage

ID_BYTES = 18
MAX_FILENAME_CHARACTERS = 255
MAX_TAGS = 64
MAX_TAG_CHARACTERS = 64
# Much longer than a write to the storage may take.
STORE_LEASE = timedelta(seconds=300)
# How long a call waits for another one that stores, or removes, the same image.
MAX_WAIT_S = 60.0
POLL_S = 0.05
SILENT_PER_SWEEP = 1000

PictureOf = Callable[[bytes], Picture]
Fetch = Callable[[str], Awaitable[bytes]]


class Images:
    """What callers can do with images.  Each sees and changes only those of its own tenant."""

    def __init__(
        self, storage: Storage, picture_of: PictureOf, subjects: Subjects, fetch: Fetch
    ) -> None:
        """Configures the service.

        Args:
            storage: keeps the images.
            picture_of: returns what is stored of an image; called in a thread.
            subjects: makes keys of subjects.
            fetch: returns the image that a URI names.
        """
        self._storage = storage
        self._picture_of = picture_of
        self._subjects = subjects
        self._fetch = fetch

    async def fetch(self, uri: str) -> bytes:
        """Returns the image that an https, s3, gs or az URI names.

        Raises:
            CategorizerError: see `Fetcher.fetch`.
        """
        return await self._fetch(uri)

    def subject_key_of(self, tenant_id: str, subject_id: str) -> str:
        """Returns the key of a subject: see `Subjects.key_of`.

        Raises:
            InvalidRequest: the name is malformed.
            FailedPrecondition: the server keeps nothing about subjects.
        """
        return self._subjects.key_of(tenant_id, subject_id)

    def check(self, new: NewImage) -> None:
        """Passes an image whose subject may be stored, and whose words are well-formed.

        Raises:
            InvalidRequest: names each field that is not.
            FailedPrecondition: the server keeps nothing about subjects.
        """
        wrong: list[tuple[str, str]] = []
        if not is_text(new.filename, MAX_FILENAME_CHARACTERS):
            text = f"must have at most {MAX_FILENAME_CHARACTERS} characters, none of control"
            wrong.append(("filename", text))
        if len(new.tags) > MAX_TAGS:
            wrong.append(("tags", f"must have at most {MAX_TAGS} words, has {len(new.tags)}"))
        if not all(tag and is_text(tag, MAX_TAG_CHARACTERS) for tag in new.tags):
            wrong.append(("tags", f"must have words of 1 to {MAX_TAG_CHARACTERS} characters"))
        if not is_text(new.subject_id, MAX_SUBJECT_CHARACTERS):
            wrong.append(("subject_id", MALFORMED))
        if wrong:
            raise InvalidRequest.of(wrong)
        self._subjects.key_of("", new.subject_id)

    async def store(self, tenant_id: str, new: NewImage) -> Image:
        """Stores an image, or returns the one that is stored of the same bytes and subject.

        Raises:
            InvalidRequest: the image cannot be decoded, or a field is not valid.
            FailedPrecondition: the server keeps nothing about subjects.
            SubjectErased: the subject was erased.
            DependencyDown: the database or the storage does not answer.
        """
        self.check(new)
        sha256 = hashlib.sha256(new.content).hexdigest()
        subject_key = self._subjects.key_of(tenant_id, new.subject_id)
        found = await rows.find(tenant_id, subject_key, sha256)
        if found:
            return found
        picture = await asyncio.to_thread(self._picture_of, new.content)
        stored_sha256 = hashlib.sha256(picture.content).hexdigest()
        image = Image(
            tenant_id=tenant_id,
            image_id=f"i-{secrets.token_urlsafe(ID_BYTES)}",
            subject_key=subject_key,
            subject_id=self._subjects.name_of(new.subject_id),
            sha256=sha256,
            object_key=image_key(tenant_id, stored_sha256, subject_key),
            size_bytes=len(picture.content),
            format=picture.format,
            width_px=picture.width_px,
            height_px=picture.height_px,
            filename=new.filename,
            tags=tuple(sorted(set(new.tags))),
            create_time=clock.now(),
        )
        if other := await self._begin(image):
            return other
        await self._storage.put(image.object_key, picture.content)
        await self._storage.flush()
        if not await rows.finish(image):
            raise DependencyDown("the image took too long to store")
        return image

    async def _begin(self, image: Image) -> Image | None:
        """Begins to store an image; returns the one that another call has stored meanwhile."""
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                while not await rows.begin(image, clock.now() + STORE_LEASE):
                    found = await rows.find(image.tenant_id, image.subject_key, image.sha256)
                    if found:
                        return found
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DependencyDown("the same image is being stored or removed") from None
        return None

    async def keep_result(
        self, tenant_id: str, image_id: str, found: Classification
    ) -> ImageResult:
        """Keeps what a model found in a stored image.

        Raises:
            ImageNotFound: the image was deleted meanwhile.
            DependencyDown: the database does not answer.
        """
        result = ImageResult(
            result_id=f"r-{secrets.token_urlsafe(ID_BYTES)}",
            image_id=image_id,
            predictions=tuple(found.predictions),
            model=found.model,
            create_time=clock.now(),
        )
        if not await rows.add_result(tenant_id, result):
            raise ImageNotFound("the image was deleted meanwhile")
        return result

    async def get(self, tenant_id: str, image_id: str) -> Image:
        """Returns an image, without its content.

        Raises:
            ImageNotFound: the tenant has no such image.
            DependencyDown: the database does not answer.
        """
        image = await rows.get(tenant_id, image_id)
        if image is None:
            raise ImageNotFound("no such image")
        return image

    async def content(self, tenant_id: str, image_id: str) -> bytes:
        """Returns what is stored of an image.

        Raises:
            ImageNotFound: the tenant has no such image.
            NotFound: its content is lost.
            DependencyDown: the database or the storage does not answer.
        """
        image = await self.get(tenant_id, image_id)
        return await self._storage.get(image.object_key)

    async def list_page(
        self, tenant_id: str, subject_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> Page[Image]:
        """Returns a page of the tenant's images, newest first.

        Args:
            tenant_id: the tenant.
            subject_id: only images of this subject; empty for all.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            FailedPrecondition: the server keeps nothing about subjects.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        before = moment_and_text_of(page_token) or (clock.now() + timedelta(days=1), "")
        subject_key = self._subjects.key_of(tenant_id, subject_id)
        found = await rows.list_images(tenant_id, before, limit + 1, subject_key)
        return page_from(
            found, limit, lambda image: token_of_moment(image.create_time, image.image_id)
        )

    async def delete(self, tenant_id: str, image_id: str) -> None:
        """Deletes an image with all that is known about it.

        Raises:
            ImageNotFound: the tenant has no such image.
            DependencyDown: the database does not answer.
        """
        if not await rows.delete(tenant_id, image_id, clock.now()):
            raise ImageNotFound("no such image")


async def remove_silent_images() -> int:
    """Removes images whose process died before they were stored; returns how many.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await rows.remove_silent(SILENT_PER_SWEEP)
