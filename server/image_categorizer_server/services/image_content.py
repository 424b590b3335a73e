"""The content of stored images: made anew from their pixels, once, and kept in the storage.

Nobody gets the bytes that somebody else has sent: they may be made to harm a decoder, or be another
kind of file as well.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from image_categorizer_server.db import image_rendition as rows
from image_categorizer_server.domain.image import Image
from image_categorizer_server.domain.rendition import FITS, ContentWish, Rendition, plan
from image_categorizer_server.errors import InvalidRequest, NotFound, Overloaded
from image_categorizer_server.services.image import Images
from image_categorizer_server.settings.image import ImageSettings
from image_categorizer_server.stores.cdn import ContentAddresses
from image_categorizer_server.stores.object_store import Storage

MAX_QUALITY = 100
DIGEST_DIGITS = 32
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Renderings:
    """What makes renditions."""

    render: Callable[[bytes, Rendition], bytes]
    """Called in a thread."""
    formats: tuple[str, ...]
    """What it writes."""
    name: str
    """Changes whenever the same image may become other bytes."""


@dataclass(frozen=True, slots=True)
class PlannedContent:
    """Content that is not read yet."""

    image: Image
    rendition: Rendition
    digest: str
    """Names the bytes that `read` returns: 32 hexadecimal digits."""

    @property
    def object_key(self) -> str:
        """Where the rendition is kept: beside its image, so that they go together."""
        return f"{self.image.object_key}-{self.digest}"

    @property
    def content_type(self) -> str:
        """The media type."""
        return f"image/{self.rendition.format}"


@dataclass(slots=True)
class _Making:
    """A rendition that is being made, and how many calls want it."""

    lock: asyncio.Lock
    count: int = 0


class ImageContents:
    """What callers see of stored images.  Each sees only those of its own tenant."""

    def __init__(
        self,
        images: Images,
        storage: Storage,
        renderings: Renderings,
        addresses: ContentAddresses,
        settings: ImageSettings,
    ) -> None:
        """Configures the service.

        Args:
            images: finds images.
            storage: keeps images and renditions.
            renderings: makes renditions.
            addresses: of the stored images.
            settings: limits.
        """
        self._images = images
        self._storage = storage
        self._renderings = renderings
        self._addresses = addresses
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._making: dict[str, _Making] = {}
        self._waiting = 0

    @property
    def cache_s(self) -> int:
        """How long clients may keep content without asking again, in seconds."""
        return self._settings.cache_s

    def check(self, wish: ContentWish) -> None:
        """Passes a wish that can be met.

        Raises:
            InvalidRequest: names each field that is not valid.
        """
        wrong: list[tuple[str, str]] = []
        max_side_px = self._settings.max_side_px
        for name, side_px in (("width", wish.width_px), ("height", wish.height_px)):
            if not 0 <= side_px <= max_side_px:
                wrong.append((name, f"must be between 0 and {max_side_px}, is {side_px}"))
        if wish.fit not in ("", *FITS):
            wrong.append(("fit", f"must be one of {', '.join(FITS)}"))
        if wish.fit == "cover" and not (wish.width_px and wish.height_px):
            wrong.append(("fit", "cover needs a width and a height"))
        if wish.format not in ("", *self._renderings.formats):
            wrong.append(("format", f"must be one of {', '.join(self._renderings.formats)}"))
        if not 0 <= wish.quality <= MAX_QUALITY:
            wrong.append(("quality", f"must be between 1 and {MAX_QUALITY}, is {wish.quality}"))
        if wish.quality and wish.format == "png":
            wrong.append(("quality", "is not for png, which loses nothing"))
        if wrong:
            raise InvalidRequest.of(wrong)

    async def plan(self, tenant_id: str, image_id: str, wish: ContentWish) -> PlannedContent:
        """Returns which content fulfils a wish, without reading it.

        Raises:
            InvalidRequest: see `check`.
            ImageNotFound: the tenant has no such image.
            DependencyDown: the database does not answer.
        """
        self.check(wish)
        image = await self._images.get(tenant_id, image_id)
        size_px = image.width_px, image.height_px
        rendition = plan(size_px, wish, self._settings.max_side_px)
        text = f"{image.object_key}\0{rendition.name}\0{self._renderings.name}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]
        return PlannedContent(image, rendition, digest)

    async def read(self, planned: PlannedContent) -> bytes:
        """Returns content; makes it if nobody has before.

        Raises:
            InvalidRequest: it is larger than may be sent.
            NotFound: what is stored of the image is lost.
            Overloaded: too many calls wait for content.
            DependencyDown: the database or the storage does not answer.
        """
        found = await self._find(planned)
        if found is None:
            async with self._turn(planned.object_key):
                found = await self._find(planned)
                if found is None:
                    found = await self._make(planned)
        limit = self._settings.max_content_bytes
        if len(found) > limit:
            text = f"the content would have {len(found)} bytes; at most {limit} are sent"
            raise InvalidRequest.of([("width", f"{text}: ask for less, or for another format")])
        return found

    async def _find(self, planned: PlannedContent) -> bytes | None:
        try:
            return await self._storage.get(planned.object_key)
        except NotFound:
            return None

    async def _make(self, planned: PlannedContent) -> bytes:
        image, key = planned.image, planned.object_key
        async with self._slots:
            content = await self._storage.get(image.object_key)
            made = await asyncio.to_thread(self._renderings.render, content, planned.rendition)
        if len(made) > self._settings.max_content_bytes:
            return made
        limit = self._settings.max_renditions
        if await rows.begin(image.tenant_id, image.image_id, key, limit):
            await self._storage.put(key, made, planned.content_type)
            await rows.end(image.tenant_id, image.image_id, key)
        return made

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        """Lets one call at a time make a rendition: the others find what the first has made.

        Raises:
            Overloaded: too many calls wait.
        """
        if self._waiting >= self._settings.max_waiting:
            raise Overloaded("too many images are being made", RETRY_AFTER_S)
        making = self._making.setdefault(key, _Making(asyncio.Lock()))
        self._waiting += 1
        making.count += 1
        try:
            async with making.lock:
                yield
        finally:
            self._waiting -= 1
            making.count -= 1
            if not making.count:
                del self._making[key]

    async def url_of(self, image: Image) -> str:
        """Returns where a client without credentials gets what is stored of an image, for a while.

        Returns:
            The signed address; empty if the installation has none, or the stored bytes have
            metadata, which nobody but the storage may see.

        Raises:
            DependencyDown: the store's signing service does not answer.
        """
        return "" if image.has_metadata else await self._addresses.url_of(image.object_key)
