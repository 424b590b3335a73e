"""images: stored images."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    DatasetOptions,
    ImageFilters,
    StoredImage,
)
from rich.progress import Progress
from rich.table import Table

from image_categorizer_server.cli.connection import Data, Server, client_of, server_of
from image_categorizer_server.cli.options import Blur, Images
from image_categorizer_server.cli.output import (
    AsJson,
    add_row,
    note,
    out,
    printable,
    reason_of,
    say,
)
from image_categorizer_server.cli.pictures import (
    Picture,
    count_of,
    each_of,
    find_pictures,
    report_found,
)
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Store images, search, change and delete them.", no_args_is_help=True)
ImageId = Annotated[str, typer.Argument(help="ID of the image, as printed by `images list`.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="Tag. Repeat the option for several.")
]
Subject = Annotated[str, typer.Option(help="Whose images.")]
# How many images are on their way at a time.
MAX_UPLOADS = 8
MANY = 3
# IDs of a group in a table.
SHOWN = 4
ReviewState = Literal["UNREVIEWED", "REVIEWED", "RIGHT", "CORRECTED", "NOT_IN_LIST"]


@app.command()
def upload(
    images: Images,
    tag: Tags = None,
    subject: Subject = "",
    blur: Blur = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Store images, and print their IDs. With --json, print one line for each as it is stored."""
    uploads = Uploads(tag or (), subject, blur or (), as_json)
    failed = asyncio.run(uploads.run(server_of(data), images))
    if failed:
        raise OperatorError(f"{failed} images could not be stored.")


class Uploads:
    """Stores images, several at a time."""

    def __init__(
        self, tags: Sequence[str], subject_id: str, blur: Sequence[str], as_json: bool
    ) -> None:
        """Prepares to store.

        Args:
            tags: of all images.
            subject_id: whose images they are; empty for nobody's.
            blur: what nobody may see in any of them.
            as_json: whether to print each image at once, and not all of them in their order.
        """
        self._tags = tags
        self._subject_id = subject_id
        self._blur = blur
        self._as_json = as_json
        self._stored: dict[int, tuple[str, StoredImage]] = {}
        self._failed = 0
        self._slots = asyncio.Semaphore(MAX_UPLOADS)

    async def run(self, server: Server, arguments: list[str]) -> int:
        """Stores what arguments stand for, and prints it; returns how many images failed.

        Raises:
            OperatorError: the server cannot be called, or there are no images.
        """
        async with AsyncImageCategorizationClient(
            server.api_key, server.base_url, tls=server.tls
        ) as client:
            try:
                info = await client.server_info()
                found = find_pictures(arguments, info.image_formats)
                count = count_of(found)
                report_found(found, count)
                is_shown = count >= MANY and sys.stderr.isatty()
                with Progress(console=note(), disable=not is_shown, transient=True) as progress:
                    task = progress.add_task("Storing", total=count)
                    async with asyncio.TaskGroup() as tasks:
                        for number, image in enumerate(each_of(found)):
                            await self._slots.acquire()
                            source = await self._source_of(image, info.limits.max_image_bytes)
                            work = self._store(client, number, image.name, source)
                            tasks.create_task(work)
                            progress.update(task, completed=number)
            except CategorizerError as error:
                raise OperatorError(error.message) from None
            finally:
                self._print()
        return self._failed

    async def _source_of(self, image: Picture, most: int) -> bytes | Exception | None:
        """Returns the content, why it cannot be read, or None for an address."""
        if image.read is None:
            return None
        try:
            return await asyncio.to_thread(image.read, most)
        except (OSError, CategorizerError) as error:
            return error

    async def _store(
        self,
        client: AsyncImageCategorizationClient,
        number: int,
        name: str,
        source: bytes | Exception | None,
    ) -> None:
        try:
            if isinstance(source, Exception):
                raise source
            image = await client.images.upload(
                source,
                image_uri="" if source is not None else name,
                filename=printable(name).rpartition("/")[2],
                tags=self._tags,
                subject_id=self._subject_id,
                blur=self._blur,
            )
        except (OSError, CategorizerError) as error:
            self._failed += 1
            say(f"{printable(name)}: {reason_of(error)}")
        else:
            self._stored[number] = name, image
            if self._as_json:
                print(json.dumps(_fields(image)), flush=True)
        finally:
            self._slots.release()

    def _print(self) -> None:
        if self._as_json or not self._stored:
            return
        table = Table("file", "image", box=None)
        for _, (name, image) in sorted(self._stored.items()):
            add_row(table, name, image.image_id)
        out().print(table)


@app.command("list")
def list_(
    category: Annotated[str, typer.Option(help="Category, or a broader one.")] = "",
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least confidence of the category.")
    ] = None,
    max_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Greatest confidence of the category.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model of the newest result.")] = "",
    tag: Tags = None,
    filename: Annotated[str, typer.Option(help="Words of the file name.")] = "",
    subject: Subject = "",
    since: Annotated[datetime | None, typer.Option(help="Stored then or later.")] = None,
    before: Annotated[datetime | None, typer.Option(help="Stored before.")] = None,
    review_state: Annotated[
        ReviewState | None, typer.Option(help="What people say about them.", case_sensitive=False)
    ] = None,
    like: Annotated[str, typer.Option(help="ID of an image: those that look like it.")] = "",
    most: Annotated[int, typer.Option(min=1, help="Maximum number of images.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the images that pass all filters, the newest first. --json prints one line for each.

    Times without a zone are those of this machine.
    """
    filters = ImageFilters(
        category=category, model=model, tags=tag or (), filename=filename, subject_id=subject
    )
    if min_confidence is not None:
        filters["min_confidence"] = min_confidence
    if max_confidence is not None:
        filters["max_confidence"] = max_confidence
    if review_state is not None:
        filters["review_state"] = review_state
    if like:
        filters["near_duplicate_of"] = like
    if since:
        filters["start_time"] = since.astimezone()
    if before:
        filters["end_time"] = before.astimezone()
    table = Table("image", "stored", "file", "category", "confidence", "tags", box=None)
    with client_of(data) as client:
        for _, image in zip(range(most), client.images.list(**filters), strict=False):
            if as_json:
                print(json.dumps(_fields(image)))
            else:
                _add(table, image)
    if not as_json:
        out().print(table)


@app.command()
def duplicates(
    bits: Annotated[
        int, typer.Option(min=0, max=10, help="By how many of 64 bits the hashes may differ.")
    ] = 4,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of groups.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List groups of images that look alike, the largest first."""
    table = Table("images", "some of them", box=None)
    with client_of(data) as client:
        groups = client.images.duplicates(max_distance_bits=bits)
        for _, group in zip(range(most), groups, strict=False):
            if as_json:
                print(json.dumps(asdict(group)))
            else:
                add_row(table, str(group.image_count), " ".join(group.image_ids[:SHOWN]))
    if not as_json:
        out().print(table)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Tar file to write.")],
    validation: Annotated[
        int, typer.Option(min=0, max=100, help="Share for validation, in percent.")
    ] = 0,
    test: Annotated[int, typer.Option(min=0, max=100, help="Share for the test, in percent.")] = 0,
    seed: Annotated[str, typer.Option(help="Another seed splits otherwise.")] = "",
    unreviewed: Annotated[
        bool, typer.Option("--unreviewed", help="Also images that nobody has judged.")
    ] = False,
    model: Annotated[str, typer.Option(help="Model of the newest result.")] = "",
    tag: Tags = None,
    data: Data = None,
) -> None:
    """Write images with the categories that people gave them to a tar file: a labelled set."""
    options = DatasetOptions(
        validation_percent=validation,
        test_percent=test,
        seed=seed,
        include_unreviewed=unreviewed,
        model=model,
        tags=tag or (),
    )
    with client_of(data) as client, file.open("wb") as opened:
        for piece in client.images.export(**options):
            opened.write(piece)
    say(f"The labelled set is in {file}.")


@app.command()
def show(image_id: ImageId, data: Data = None, as_json: AsJson = False) -> None:
    """Show one image, without its content."""
    with client_of(data) as client:
        _print(client.images.get(image_id), as_json)


@app.command()
def update(
    image_id: ImageId,
    filename: Annotated[str | None, typer.Option(help="New name of the file.")] = None,
    tag: Tags = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Change the file name and the tags of an image. What is not given does not change."""
    if tag and no_tags:
        raise typer.BadParameter("give either --tag or --no-tags")
    tags = [] if no_tags else tag
    with client_of(data) as client:
        _print(client.images.update(image_id, filename=filename, tags=tags), as_json)


@app.command()
def delete(
    image_ids: Annotated[list[str], typer.Argument(help="IDs of images.", metavar="IMAGE_ID...")],
    data: Data = None,
) -> None:
    """Delete images with all that is known about them."""
    with client_of(data) as client:
        for image_id in image_ids:
            client.images.delete(image_id)
            say(f"{image_id} is deleted.")


def _print(image: StoredImage, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(image)))
        return
    table = Table("field", "value", box=None, show_header=False)
    for name, value in _fields(image).items():
        add_row(table, name, value if isinstance(value, str) else json.dumps(value))
    out().print(table)


def _add(table: Table, image: StoredImage) -> None:
    result = image.result
    category = (result.category if result else None) or "-"
    confidence = result.confidence if result else None
    shown = "" if confidence is None else f"{confidence:.1%}"
    stored = f"{image.create_time.astimezone():%Y-%m-%d %H:%M}"
    add_row(table, image.image_id, stored, image.filename, category, shown, " ".join(image.tags))


def _fields(image: StoredImage) -> dict[str, object]:
    result = image.result
    return {
        "image_id": image.image_id,
        "filename": image.filename,
        "tags": list(image.tags),
        "subject_id": image.subject_id,
        "create_time": image.create_time.isoformat(),
        "format": image.format,
        "width_px": image.width_px,
        "height_px": image.height_px,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "category": result.category if result else None,
        "confidence": result.confidence if result else None,
        "model": f"{result.model.name}/{result.model.version}" if result else None,
    }
