"""Export of stored images as a labelled set: a tar file that is made while it is read.

    <part>/<category>/<image>.<format>    the images, by part and category
    labels.jsonl                          a line for each image
    <part>.json                           the set file that `evaluate` reads
    manifest.json                         how many images there are

Memory holds a few images.  The labels wait on disk until the images are sent.
"""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO

from image_categorizer_server import clock
from image_categorizer_server.db import audit
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.db import review as review_rows
from image_categorizer_server.domain.audit import AuditAction, NewEvent, current_actor
from image_categorizer_server.domain.dataset import DatasetFilter, Split, folder_of
from image_categorizer_server.domain.image import Image, ImageFilter
from image_categorizer_server.domain.picture import Picture
from image_categorizer_server.domain.review import ReviewState
from image_categorizer_server.errors import ImageNotFound, InvalidRequest, NotFound
from image_categorizer_server.services.image import Images, check_search
from image_categorizer_server.services.review import best_of
from image_categorizer_server.services.tar import END, pieces_of, pieces_of_file

ROWS_AT_ONCE = 100
IMAGES_AT_ONCE = 8
MAX_SEED_CHARACTERS = 64
IN_MEMORY_BYTES = 1 << 20
PictureOf = Callable[[bytes, bool], Picture]
# The same images make the same file, whenever it is made.
NO_TIME = datetime(1980, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """An image with its category."""

    image: Image
    category: str
    is_reviewed: bool


@dataclass(frozen=True, slots=True)
class _Exported:
    """An image of the file."""

    labelled: _Labelled
    content: bytes
    format: str


class _Labels:
    """The labels of the images that were sent."""

    def __init__(self, split: Split, stack: ExitStack) -> None:
        self._split = split
        self.lines = _spool(stack)
        self.sets = {part: _spool(stack) for part in split.parts}
        self.parts = Counter[str]()
        self.categories = Counter[str]()

    def add(self, exported: _Exported) -> str:
        """Adds an image, and returns the name of its file."""
        image, category = exported.labelled.image, exported.labelled.category
        part = self._split.part_of(image.sha256)
        suffix = exported.format.lower()
        name = f"{part}/{folder_of(category)}/{image.image_id}.{suffix}"
        line = {"file": name, "category": category, "part": part, **_facts(exported.labelled)}
        self.lines.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        entry = json.dumps({"file": name, "category": category}, ensure_ascii=False).encode()
        start = b",\n" if self.parts[part] else b'{"images": [\n'
        self.sets[part].write(start + entry)
        self.parts[part] += 1
        self.categories[category] += 1
        return name

    def pieces(self) -> Iterator[bytes]:
        """Yields the files with the labels."""
        yield from pieces_of_file("labels.jsonl", self.lines, NO_TIME)
        for part, file in self.sets.items():
            file.write(b"\n]}\n" if self.parts[part] else b'{"images": []}\n')
            yield from pieces_of_file(f"{part}.json", file, NO_TIME)


class DatasetExports:
    """Exports images as labelled sets."""

    def __init__(self, images: Images, picture_of: PictureOf) -> None:
        """Configures the service.

        Args:
            images: reads images.
            picture_of: returns an image without its metadata; called in a thread.
        """
        self._images = images
        self._picture_of = picture_of

    async def begin(self, tenant_id: str, wanted: DatasetFilter, split: Split) -> None:
        """Passes an export that can be made, once the audit says that it is.

        Raises:
            InvalidRequest: names each field that is not valid.
            DependencyDown: the database does not answer.
        """
        check_search(_search(wanted))
        wrong = _wrong_split(split)
        if wrong:
            raise InvalidRequest.of(wrong)
        action, actor = AuditAction.DATASET_EXPORT, current_actor.get()
        await audit.append([NewEvent(tenant_id, clock.now(), actor, action, "")])

    async def pieces(
        self, tenant_id: str, wanted: DatasetFilter, split: Split
    ) -> AsyncIterator[bytes]:
        """Yields the file.

        Raises:
            DependencyDown: the database or the storage does not answer.
        """
        lost = 0
        with ExitStack() as stack:
            labels = _Labels(split, stack)
            async for some in self._labelled(tenant_id, wanted):
                for exported in await self._read(some):
                    if exported is None:
                        lost += 1
                        continue
                    name, time = labels.add(exported), exported.labelled.image.create_time
                    for piece in pieces_of(name, exported.content, time):
                        yield piece
            for piece in labels.pieces():
                yield piece
            manifest = {
                "images": labels.parts.total(),
                "lost": lost,
                "parts": dict(sorted(labels.parts.items())),
                "categories": dict(sorted(labels.categories.items())),
                "split": asdict(split),
            }
        content = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        for piece in pieces_of("manifest.json", content, NO_TIME):
            yield piece
        yield END

    async def _labelled(
        self, tenant_id: str, wanted: DatasetFilter
    ) -> AsyncIterator[Sequence[_Labelled]]:
        """Yields the images with their categories, a few at a time."""
        search, before = _search(wanted), image_rows.NEWEST
        while found := await image_rows.list_images(tenant_id, search, "", before, ROWS_AT_ONCE):
            shown = await review_rows.find_labels(tenant_id, [i.image_id for i in found])
            labelled = [
                _Labelled(image, category, image.image_id in shown)
                for image in found
                if (category := shown.get(image.image_id) or _predicted(image, wanted))
            ]
            for start in range(0, len(labelled), IMAGES_AT_ONCE):
                yield labelled[start : start + IMAGES_AT_ONCE]
            before = found[-1].create_time, found[-1].image_id

    async def _read(self, some: Sequence[_Labelled]) -> list[_Exported | None]:
        """Returns images with their content; None for those that are gone or lost."""
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(self._read_one(labelled)) for labelled in some]
        return [task.result() for task in reading]

    async def _read_one(self, labelled: _Labelled) -> _Exported | None:
        image = labelled.image
        try:
            content = await self._images.content(image.tenant_id, image.image_id)
        except (ImageNotFound, NotFound):
            return None
        if not image.has_metadata:
            return _Exported(labelled, content, image.format)
        picture = await asyncio.to_thread(self._picture_of, content, False)
        return _Exported(labelled, picture.content, picture.format)


def _search(wanted: DatasetFilter) -> ImageFilter:
    return ImageFilter(
        model=wanted.model,
        tags=wanted.tags,
        start_time=wanted.start_time,
        end_time=wanted.end_time,
        review_state="" if wanted.include_unreviewed else ReviewState.REVIEWED,
    )


def _predicted(image: Image, wanted: DatasetFilter) -> str:
    """Returns the category of an image that nobody has judged; empty if it is not exported."""
    return best_of(image.result) if wanted.include_unreviewed and image.result else ""


def _wrong_split(split: Split) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    shares = split.validation_percent, split.test_percent
    for field, share in zip(("validation_percent", "test_percent"), shares, strict=True):
        if not 0 <= share <= 100:
            wrong.append((field, f"must be between 0 and 100, is {share}"))
    if not wrong and sum(shares) > 100:
        wrong.append(("test_percent", "must be at most 100 with validation_percent"))
    if len(split.seed) > MAX_SEED_CHARACTERS:
        wrong.append(("seed", f"must have at most {MAX_SEED_CHARACTERS} characters"))
    return wrong


def _facts(labelled: _Labelled) -> dict[str, object]:
    image, result = labelled.image, labelled.image.result
    best = result.predictions[0] if result and result.predictions else None
    return {
        "is_reviewed": labelled.is_reviewed,
        "image_id": image.image_id,
        "sha256": image.sha256,
        "filename": image.filename,
        "tags": list(image.tags),
        "predicted": best.category.name if best else None,
        "confidence": best.confidence if best else None,
        "model": f"{result.model.name}/{result.model.version}" if result else None,
    }


def _spool(stack: ExitStack) -> IO[bytes]:
    return stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES))
