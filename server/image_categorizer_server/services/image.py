"""Stored images: each is stored once for a subject, with what was found in it.

bytes ─▶ picture ─▶ its row, with a lease ─▶ the storage ─▶ the row is finished
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.access.subject import MALFORMED, MAX_SUBJECT_CHARACTERS, Subjects
from image_categorizer_server.db import image as rows
from image_categorizer_server.db import image_result
from image_categorizer_server.db.image_term import words_of
from image_categorizer_server.domain.blur import Rectangle, rectangles_of
from image_categorizer_server.domain.classification import Classification, ClassifyOptions
from image_categorizer_server.domain.embedding import Embedding
from image_categorizer_server.domain.image import (
    Image,
    ImageChanges,
    ImageFilter,
    ImageResult,
    NewImage,
    is_text,
)
from image_categorizer_server.domain.picture import Picture
from image_categorizer_server.domain.receipt import ON_STORING, claims_of
from image_categorizer_server.errors import (
    DependencyDown,
    ImageNotFound,
    InvalidRequest,
    QuotaExceeded,
    SubjectErased,
)
from image_categorizer_server.paging import (
    Page,
    limit_of,
    moment_and_text_of,
    page_from,
    token_of_moment,
)
from image_categorizer_server.services.crashing_images import digest_of
from image_categorizer_server.services.gathered import Gathered
from image_categorizer_server.services.neighbours import rows_of
from image_categorizer_server.stores.image_key import image_key
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.tasks import TaskOwner
from image_categorizer_server.version import VERSION

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
MAX_NAME_CHARACTERS = 256
# Words of a file name, and tags, in one search: each is a join.
MAX_SEARCHED = 8
EVERY_IMAGE = ImageFilter()
TOO_LONG = "the image took too long to store"

PictureOf = Callable[[bytes, bool, Sequence[Rectangle]], Picture]
Fetch = Callable[[str], Awaitable[bytes]]
Admit = Callable[[str, int], Awaitable[None]]
_Classified = tuple[Image, ImageResult, Embedding | None]
Sign = Callable[[Mapping[str, object]], str]
"""Returns the receipt with a payload; empty without a key."""


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """What is done about every image beside storing it."""

    admit: Admit
    """Passes a tenant's image of a size in bytes, or raises QuotaExceeded."""
    give_back: Callable[[str, int], None]
    """Takes an image that was not stored after all out of what `admit` has counted."""
    sign: Sign


class Images:
    """What callers can do with images.  Each sees and changes only those of its own tenant."""

    def __init__(
        self,
        storage: Storage,
        picture_of: PictureOf,
        subjects: Subjects,
        fetch: Fetch,
        policy: ImagePolicy,
        tasks: TaskOwner,
    ) -> None:
        """Configures the service.

        Args:
            storage: keeps the images.
            picture_of: returns what is stored of an image, with its metadata or without, and with
                parts that are blurred; called in a thread.
            subjects: makes keys of subjects.
            fetch: returns the image that a URI names.
            policy: what each image must pass.
            tasks: owns the transactions.
        """
        self._sign = policy.sign
        self._storage = storage
        self._picture_of = picture_of
        self._subjects = subjects
        self._fetch = fetch
        self._admit = policy.admit
        self._give_back = policy.give_back
        self._found = Gathered(rows.find, tasks, "finder of images")
        self._begun = Gathered(self._begin_all, tasks, "beginner of images")
        self._finished = Gathered(self._finish_all, tasks, "finisher of images")
        self._completed = Gathered(self._complete_all, tasks, "finisher of classified images")
        self._kept = Gathered(image_result.add_results, tasks, "writer of results")

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
        wrong = [*_wrong_filename(new.filename), *_wrong_tags(new.tags, MAX_TAGS)]
        if not is_text(new.subject_id, MAX_SUBJECT_CHARACTERS):
            wrong.append(("subject_id", MALFORMED))
        if new.blur and new.keep_metadata:
            wrong.append(("blur", "and keep_metadata exclude each other"))
        if wrong:
            raise InvalidRequest.of(wrong)
        rectangles_of(new.blur)
        self._subjects.key_of("", new.subject_id)

    async def store(self, tenant_id: str, new: NewImage) -> Image:
        """Stores an image, or returns the one that is stored of the same bytes and subject.

        Raises:
            InvalidRequest: the image cannot be decoded, or a field is not valid.
            FailedPrecondition: the server keeps nothing about subjects.
            QuotaExceeded: the tenant stores too much.
            SubjectErased: the subject was erased.
            DependencyDown: the database or the storage does not answer.
        """
        image, is_stored = await self._written(tenant_id, new, None)
        if not is_stored and not await self._finished.answer(tenant_id, image):
            raise DependencyDown(TOO_LONG)
        return image

    async def store_classified(
        self, tenant_id: str, new: NewImage, found: Classification
    ) -> tuple[Image, ImageResult | None]:
        """Stores an image and what a model found in it: both become visible at once.

        Returns:
            The image.  The result, unless an image is returned that was stored before: then nothing
            is kept of what was found.

        Raises:
            CategorizerError: see `store`.
        """
        image, is_stored = await self._written(tenant_id, new, found.picture)
        if is_stored:
            return image, None
        input_sha256 = await digest_of(new.content) if new.blur else image.sha256
        result = self._result(image, found, input_sha256)
        # That of the whole image knows what is blurred.
        embedding = None
        if found.embedding is not None and not new.blur:
            embedding = Embedding(found.embedding, found.model)
        if not await self._completed.answer(tenant_id, (image, result, embedding)):
            raise DependencyDown(TOO_LONG)
        return image, result

    async def _written(
        self, tenant_id: str, new: NewImage, picture: Picture | None
    ) -> tuple[Image, bool]:
        """Returns an image whose object is stored, and whether it was stored before.

        Args:
            tenant_id: the tenant.
            new: the image, as it was sent.
            picture: what is to be stored of it, if that is known; it counts only for an image of
                which nothing is blurred, and which loses its metadata.
        """
        self.check(new)
        subject_key = self._subjects.key_of(tenant_id, new.subject_id)
        sha256 = hashlib.sha256(new.content).hexdigest()
        if new.blur or new.keep_metadata:
            picture = None
        # With other parts blurred it is another image: what is stored tells, once it is made.
        is_made = picture is not None or bool(new.blur)
        if not is_made and (found := await self.find(tenant_id, subject_key, sha256)):
            return found, True
        if picture is None:
            picture = await asyncio.to_thread(
                self._picture_of, new.content, new.keep_metadata, rectangles_of(new.blur)
            )
        stored_sha256 = hashlib.sha256(picture.content).hexdigest()
        if new.blur:
            sha256 = stored_sha256
            if found := await self.find(tenant_id, subject_key, sha256):
                return found, True
        try:
            await self._admit(tenant_id, len(picture.content))
        except QuotaExceeded:
            if found := await self.find(tenant_id, subject_key, sha256):
                return found, True
            raise
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
            filename=last_part(new.filename),
            tags=tuple(sorted(set(new.tags))),
            create_time=clock.now(),
            facts=picture.facts,
            has_metadata=new.keep_metadata,
        )
        if other := await self._begin(image):
            self._give_back(tenant_id, image.size_bytes)
            return other, True
        content_type = f"image/{picture.format.lower()}"
        await self._storage.put(image.object_key, picture.content, content_type)
        return image, False

    async def find(self, tenant_id: str, subject_key: str, sha256: str) -> Image | None:
        """Returns the image that is stored of some bytes and a subject; None if there is none.

        Raises:
            DependencyDown: the database does not answer.
        """
        return await self._found.answer(tenant_id, (subject_key, sha256))

    async def _begin(self, image: Image) -> Image | None:
        """Begins to store an image; returns the one that another call has stored meanwhile."""
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                key = image.subject_key, image.sha256
                while (begun := await self._begun.answer(image.tenant_id, image)) is not True:
                    if isinstance(begun, SubjectErased):
                        raise begun
                    found = await self._found.answer(image.tenant_id, key)
                    if found:
                        return found
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DependencyDown("the same image is being stored or removed") from None
        return None

    async def _begin_all(
        self, tenant_id: str, images: Sequence[Image]
    ) -> Sequence[bool | SubjectErased]:
        return await rows.begin(tenant_id, images, clock.now() + STORE_LEASE)

    async def _finish_all(self, tenant_id: str, images: Sequence[Image]) -> Sequence[bool]:
        await self._storage.flush()
        return await rows.finish(tenant_id, images)

    async def _complete_all(self, tenant_id: str, new: Sequence[_Classified]) -> Sequence[bool]:
        await self._storage.flush()
        embeddings = [(image.image_id, e) for image, _, e in new if e is not None]
        # The first code of a size takes milliseconds to make.
        made = await asyncio.to_thread(rows_of, embeddings)
        by_id = {row.image_id: row for row in made}
        complete = [
            image_result.NewResult(image, result, by_id.get(image.image_id))
            for image, result, _ in new
        ]
        return await image_result.finish(tenant_id, complete)

    async def keep_result(
        self, image: Image, found: Classification, input_sha256: str
    ) -> ImageResult:
        """Keeps what a model found in a stored image, with its receipt.

        Args:
            image: the image.
            found: what was found.
            input_sha256: of the bytes that were classified, as they were sent or are stored.


        Raises:
            ImageNotFound: the image was deleted meanwhile.
            DependencyDown: the database does not answer.
        """
        result = self._result(image, found, input_sha256)
        if not await self._kept.answer(image.tenant_id, result):
            raise ImageNotFound("the image was deleted meanwhile")
        return result

    def _result(self, image: Image, found: Classification, input_sha256: str) -> ImageResult:
        """Returns what is kept of what a model found, with its receipt."""
        result = ImageResult(
            result_id=f"r-{secrets.token_urlsafe(ID_BYTES)}",
            image_id=image.image_id,
            predictions=tuple(found.predictions),
            model=found.model,
            create_time=clock.now(),
            digests=found.digests,
            options=_without_person(found.options),
            input_sha256=input_sha256,
            server_version=VERSION,
        )
        receipt = self._sign(claims_of(image.tenant_id, result, ON_STORING))
        return replace(result, receipt=receipt)

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
        self,
        tenant_id: str,
        search: ImageFilter = EVERY_IMAGE,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Image]:
        """Returns a page of the tenant's images that a search finds, newest first.

        Args:
            tenant_id: the tenant.
            search: what the images must have; by default nothing.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size`, `page_token` or a field of the search is not valid.
            FailedPrecondition: the server keeps nothing about subjects.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        before = moment_and_text_of(page_token) or (clock.now() + timedelta(days=1), "")
        check_search(search)
        subject_key = self._subjects.key_of(tenant_id, search.subject_id)
        found = await rows.list_images(tenant_id, search, subject_key, before, limit + 1)
        return page_from(
            found, limit, lambda image: token_of_moment(image.create_time, image.image_id)
        )

    async def update(self, tenant_id: str, image_id: str, changes: ImageChanges) -> Image:
        """Changes the file name and the tags of an image.

        Raises:
            InvalidRequest: names each field that is not valid.
            ImageNotFound: the tenant has no such image.
            DependencyDown: the database does not answer.
        """
        name, tags = changes.filename, changes.tags
        if wrong := [*_wrong_filename(name or ""), *_wrong_tags(tags or (), MAX_TAGS)]:
            raise InvalidRequest.of(wrong)
        stored = ImageChanges(
            None if name is None else last_part(name),
            None if tags is None else tuple(sorted(set(tags))),
        )
        if not await rows.update(tenant_id, image_id, stored):
            raise ImageNotFound("no such image")
        return await self.get(tenant_id, image_id)

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


def last_part(filename: str) -> str:
    """Returns a file name without folders, as they are written anywhere."""
    return filename.replace("\\", "/").rpartition("/")[2]


def check_search(search: ImageFilter) -> None:
    """Passes a search whose fields are well-formed.

    Raises:
        InvalidRequest: names each field that is not.
    """
    wrong = _wrong_tags(search.tags, MAX_SEARCHED)
    for field, name in (("category", search.category), ("model", search.model)):
        if not is_text(name, MAX_NAME_CHARACTERS):
            text = f"must have at most {MAX_NAME_CHARACTERS} characters, none of control"
            wrong.append((field, text))
    if search.filename and not 1 <= len(words_of(search.filename)) <= MAX_SEARCHED:
        wrong.append(("filename", f"must have 1 to {MAX_SEARCHED} words of letters and digits"))
    if search.confidences is not None:
        least, most = search.confidences
        for field, value in (("min_confidence", least), ("max_confidence", most)):
            if not 0 <= value <= 1:
                wrong.append((field, f"must be in [0, 1], is {value:g}"))
        if least > most:
            wrong.append(("min_confidence", "must not be above max_confidence"))
    if wrong:
        raise InvalidRequest.of(wrong)


def _wrong_filename(filename: str) -> list[tuple[str, str]]:
    if is_text(last_part(filename), MAX_FILENAME_CHARACTERS):
        return []
    text = f"must have at most {MAX_FILENAME_CHARACTERS} characters, none of control"
    return [("filename", text)]


def _wrong_tags(tags: Sequence[str], most: int) -> list[tuple[str, str]]:
    wrong = []
    if len(tags) > most:
        wrong.append(("tags", f"must have at most {most} words, has {len(tags)}"))
    if not all(tag and is_text(tag, MAX_TAG_CHARACTERS) for tag in tags):
        wrong.append(("tags", f"must have words of 1 to {MAX_TAG_CHARACTERS} characters"))
    return wrong


def _without_person(options: ClassifyOptions | None) -> ClassifyOptions | None:
    """Returns the options that decide on predictions: receipts and results name nobody."""
    return replace(options, store=False, subject_id="", blur=()) if options else None
