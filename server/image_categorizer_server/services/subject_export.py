"""Export of a subject: all that is stored about it, as a zip file that is made while it is read.

    images/<image>.json         the image, and what models found in it
    images/<image>.<format>     what is stored of it
    batches/<batch>.json        the batch
    batches/<batch>/results.jsonl, batches/<batch>/<item>    its outcomes and its images
    manifest.json               whose it is, and how much there is

Memory holds one image.  The file ends with its directory: one that was cut off does not open.
"""

import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass

from image_categorizer_server import clock
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import audit
from image_categorizer_server.db import batch as batch_rows
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.domain.audit import AuditAction, NewEvent, current_actor, utc_text
from image_categorizer_server.domain.batch import Batch
from image_categorizer_server.domain.image import Image, ImageFilter, ImageResult
from image_categorizer_server.errors import InvalidRequest, NotFound
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.image import Images

PIECE_BYTES = 65_536
ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of an export."""

    tenant_id: str
    subject_key: str


class _Archive:
    """A zip file whose bytes are taken as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._zip = zipfile.ZipFile(self, "w")

    def write(self, content: bytes) -> int:
        """Takes bytes of the file: the zip file calls it."""
        self._bytes += content
        return len(content)

    def flush(self) -> None:
        """Does nothing: the zip file calls it."""

    def add(self, name: str, content: bytes, *, is_packed: bool = False) -> None:
        """Adds a file.

        Args:
            name: of the file.
            content: of the file.
            is_packed: whether compression would not make it smaller.
        """
        method = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
        self._zip.writestr(name, content, method)

    def close(self) -> None:
        """Ends the file with its directory."""
        self._zip.close()

    def pieces(self) -> list[bytes]:
        """Returns the bytes since the last call, in pieces that fit into a message."""
        whole, self._bytes = bytes(self._bytes), bytearray()
        return [whole[i : i + PIECE_BYTES] for i in range(0, len(whole), PIECE_BYTES)]


class SubjectExports:
    """Exports subjects."""

    def __init__(self, images: Images, batches: Batches, subjects: Subjects) -> None:
        self._images = images
        self._batches = batches
        self._subjects = subjects

    async def begin(self, tenant_id: str, subject_id: str) -> Subject:
        """Returns the subject, once the audit says that it is exported.

        Raises:
            InvalidRequest: the subject is missing or malformed.
            FailedPrecondition: the server keeps nothing about subjects.
            DependencyDown: the database does not answer.
        """
        if not subject_id:
            raise InvalidRequest.of([("subject_id", "is required")])
        subject = Subject(tenant_id, self._subjects.key_of(tenant_id, subject_id))
        action, actor = AuditAction.SUBJECT_EXPORT, current_actor.get()
        event = NewEvent(tenant_id, clock.now(), actor, action, subject.subject_key)
        await audit.append([event])
        return subject

    async def pieces(self, subject: Subject) -> AsyncIterator[bytes]:
        """Yields the file.

        Raises:
            DependencyDown: the database or the storage does not answer.
        """
        archive = _Archive()
        image_count = batch_count = 0
        async for image in self._all_images(subject):
            await self._add_image(archive, image)
            image_count += 1
            for piece in archive.pieces():
                yield piece
        async for batch in self._all_batches(subject):
            batch_count += 1
            async for _ in self._add_batch(archive, batch):
                for piece in archive.pieces():
                    yield piece
        manifest = {
            "subject_key": subject.subject_key,
            "time": utc_text(clock.now()),
            "images": image_count,
            "batches": batch_count,
        }
        archive.add("manifest.json", _json(manifest))
        archive.close()
        for piece in archive.pieces():
            yield piece

    async def _all_images(self, subject: Subject) -> AsyncIterator[Image]:
        before = image_rows.NEWEST
        while found := await image_rows.list_images(
            subject.tenant_id, ImageFilter(), subject.subject_key, before, ROWS_AT_ONCE
        ):
            for image in found:
                yield image
            before = found[-1].create_time, found[-1].image_id

    async def _all_batches(self, subject: Subject) -> AsyncIterator[Batch]:
        after = ""
        while found := await batch_rows.list_of_subject(
            subject.tenant_id, subject.subject_key, after, ROWS_AT_ONCE
        ):
            for batch in found:
                yield batch
            after = found[-1].batch_id

    async def _add_image(self, archive: _Archive, image: Image) -> None:
        results = await image_rows.list_results(image.tenant_id, image.image_id)
        fields: dict[str, object] = {
            "image_id": image.image_id,
            "subject_id": image.subject_id,
            "sha256": image.sha256,
            "width_px": image.width_px,
            "height_px": image.height_px,
            "filename": image.filename,
            "tags": list(image.tags),
            "create_time": utc_text(image.create_time),
            "results": [_result_fields(result) for result in results],
        }
        archive.add(f"images/{image.image_id}.json", _json(fields))
        try:
            content = await self._images.content(image.tenant_id, image.image_id)
        except NotFound:  # deleted meanwhile, or lost
            return
        archive.add(f"images/{image.image_id}.{image.format.lower()}", content, is_packed=True)

    async def _add_batch(self, archive: _Archive, batch: Batch) -> AsyncIterator[None]:
        """Adds a batch; yields after each file."""
        config = batch.config
        fields = {
            "batch_id": batch.batch_id,
            "state": batch.state.value,
            "create_time": utc_text(batch.create_time),
            "options": asdict(config.options),
            "webhook_url": config.webhook_url,
            "request_id": config.request_id,
            "priority": config.priority,
            "item_count": batch.item_count,
        }
        folder = f"batches/{batch.batch_id}"
        archive.add(f"{folder}.json", _json(fields))
        lines = [
            json.dumps(result.public_fields(), ensure_ascii=False)
            async for result in self._batches.export(batch.tenant_id, batch.batch_id)
        ]
        archive.add(f"{folder}/results.jsonl", "".join(f"{line}\n" for line in lines).encode())
        yield
        async for number, content in self._batches.contents(batch.tenant_id, batch.batch_id):
            archive.add(f"{folder}/{number}", content, is_packed=True)
            yield


def _result_fields(result: ImageResult) -> dict[str, object]:
    model = result.model
    return {
        "result_id": result.result_id,
        "model": {"name": model.name, "version": model.version, "digest": model.digest},
        "predictions": [prediction.public_fields() for prediction in result.predictions],
        "create_time": utc_text(result.create_time),
    }


def _json(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, indent=1, ensure_ascii=False).encode()
