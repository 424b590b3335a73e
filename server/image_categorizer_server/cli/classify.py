"""classify: images, answered at once."""

import asyncio
import base64
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    Classification,
    Lane,
    Options,
    Result,
)
from rich.progress import Progress
from rich.table import Table

from image_categorizer_server.cli.bars import bar
from image_categorizer_server.cli.connection import Data, Server, server_of
from image_categorizer_server.cli.options import (
    BoundingBoxes,
    Exclude,
    Images,
    Include,
    Model,
    NoCache,
    RawConfidence,
    RollUp,
    Threshold,
    TopK,
    Version,
    options_of,
)
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
    is_uri,
    report_found,
    sendable,
)
from image_categorizer_server.errors import OperatorError

# From this many images on, the command shows progress and asks for the batch lane.
MANY = 3
# How many results may wait for the one before them.
MAX_AHEAD = 128
# How many addresses the server is asked to fetch at a time.
MAX_FETCHES = 8
# The header of the column with pictures.
BAR = ""
# Bounds the name of a file: 4 bytes for each, of the 255 that file systems allow.
MAX_STEM_CHARACTERS = 50


def classify(
    images: Images,
    model: Model = "",
    version: Version = "",
    top_k: TopK = 1,
    threshold: Threshold = 0.0,
    include: Include = None,
    exclude: Exclude = None,
    bounding_boxes: BoundingBoxes = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Draw a heat map of what led to the best prediction: a PNG file in the current "
            "folder, in base64 with --json.",
        ),
    ] = False,
    no_cache: NoCache = False,
    roll_up: RollUp = None,
    raw_confidence: RawConfidence = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Classify images, and print the results in their order.

    A running `up` is found by its data folder and needs no API key. To use another server, set
    CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY.
    """
    server = server_of(data)
    options = options_of(
        model,
        version,
        top_k,
        threshold,
        include,
        exclude,
        bounding_boxes,
        no_cache,
        roll_up,
        raw_confidence,
    )
    options["explain"] = explain
    count, failed = asyncio.run(_classify_all(images, server, options, as_json))
    if failed:
        raise OperatorError(f"{failed} of {count} images could not be classified.")


async def _classify_all(
    images: list[str], server: Server, options: Options, as_json: bool
) -> tuple[int, int]:
    """Prints one result per image, in the order of the images.

    Returns how many images there were, and how many of them failed.
    """
    bars = (BAR,) if out().is_terminal else ()
    table = Table("file", "category", *bars, "confidence", box=None)
    if options["raw_confidence"]:
        table.add_column("raw")
    if options["bounding_boxes"]:
        table.add_column("box")
    done = failed = 0

    def show(result: Result) -> None:
        nonlocal done, failed
        failed += _show(result, as_json, table)
        done += 1
        progress.update(task, completed=done)

    async with AsyncImageCategorizationClient(
        server.api_key, server.base_url, tls=server.tls
    ) as client:
        try:
            info = await client.server_info()
            found = find_pictures(images, info.image_formats)
            count = count_of(found)
            report_found(found, count)
            is_many = count >= MANY
            is_shown = is_many and sys.stderr.isatty()
            with Progress(console=note(), disable=not is_shown, transient=True) as progress:
                task = progress.add_task("Classifying", total=count)
                lane: Lane = "BATCH" if is_many else "INTERACTIVE"
                run = Run(client, options, info.limits.max_image_bytes, lane)
                await run.classify(each_of(found), show)
        except CategorizerError as error:
            raise OperatorError(error.message) from None
        finally:
            if table.row_count:
                out().print(table)
    return done, failed


class Run:
    """Classifies images, several at a time, and reports their results in their order."""

    def __init__(
        self,
        client: AsyncImageCategorizationClient,
        options: Options,
        max_image_bytes: int,
        lane: Lane,
    ) -> None:
        """Prepares one run.

        Args:
            client: of the server.
            options: how to classify.
            max_image_bytes: the server's limit.
            lane: of files; addresses have the lane of single images.
        """
        self._client = client
        self._options = options
        self._max_image_bytes = max_image_bytes
        self._lane = lane
        self._results: asyncio.Queue[asyncio.Future[Result] | None] = asyncio.Queue(MAX_AHEAD)
        self._fetches = asyncio.Semaphore(MAX_FETCHES)

    async def classify(self, images: Iterator[Picture], show: Callable[[Result], None]) -> None:
        """Calls `show` with the result of each image; that an image fails is a result.

        Raises:
            CategorizerError: the server cannot be called.
            Exception: what `show` raises.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._start_all(images, tasks))
                while (result := await self._results.get()) is not None:
                    show(await result)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _start_all(self, images: Iterator[Picture], tasks: asyncio.TaskGroup) -> None:
        """Classifies images that follow one another on one stream; addresses have no stream."""
        for is_address, some in itertools.groupby(images, lambda image: image.read is None):
            if is_address:
                for image in some:
                    await self._results.put(tasks.create_task(self._fetch(image.name)))
            else:
                await self._stream(some)
        await self._results.put(None)

    async def _fetch(self, uri: str) -> Result:
        async with self._fetches:
            try:
                answer = await self._client.classify_image(image_uri=uri, **self._options)
            except CategorizerError as error:
                return Result(uri, error=error)
            return Result(uri, answer)

    async def _stream(self, images: Iterable[Picture]) -> None:
        unanswered: dict[str, tuple[str, asyncio.Future[Result]]] = {}

        async def sources() -> AsyncIterator[tuple[str, bytes]]:
            for number, image in enumerate(images):
                assert image.read is not None
                result = asyncio.get_running_loop().create_future()
                await self._results.put(result)
                try:
                    content = await asyncio.to_thread(image.read, self._max_image_bytes)
                except (OSError, CategorizerError) as error:
                    result.set_result(Result(image.name, error=error))
                    continue
                # A name may occur twice.
                unanswered[str(number)] = image.name, result
                yield str(number), content

        answers = self._client.classify_stream(sources(), lane=self._lane, **self._options)
        async for answer in answers:
            name, result = unanswered.pop(answer.key)
            if not result.cancelled():
                result.set_result(_named(answer, name))


def _named(result: Result, name: str) -> Result:
    classification = result.classification
    if classification is not None:
        classification = replace(classification, filename=name)
    return replace(result, key=name, classification=classification)


def _show(result: Result, as_json: bool, table: Table) -> bool:
    """Prints a result or adds it to the table. Returns whether it is a failure."""
    classification = result.classification
    if classification is None:
        say(f"{printable(result.filename)}: {reason_of(result.error)}")
        return True
    if as_json:
        fields = asdict(classification)
        fields["filename"] = sendable(classification.filename)
        fields["heat_map"] = base64.b64encode(classification.heat_map).decode()
        if not classification.heat_map:
            del fields["heat_map"]
        best = {"category": result.category, "confidence": result.confidence}
        print(json.dumps(fields | best), flush=True)
        return False
    for warning in classification.warnings:
        say(f"{printable(result.filename)}: {warning.lower().replace('_', ' ')}")
    _add_rows(table, classification)
    if classification.heat_map:
        _save(classification)
    return False


def _add_rows(table: Table, result: Classification) -> None:
    for position, prediction in enumerate(result.predictions):
        raw = prediction.raw_confidence
        boxes = "; ".join(", ".join(map(str, box)) for box in prediction.bounding_boxes)
        cells = {
            "file": result.filename if position == 0 else "",
            "category": prediction.category,
            "confidence": f"{prediction.confidence:.1%}",
            "raw": "-" if raw is None else f"{raw:.1%}",
            "box": boxes or "-",
        }
        names = (str(column.header) for column in table.columns)
        share = bar(prediction.confidence)
        table.add_row(*(share if name == BAR else printable(cells[name]) for name in names))
    if not result.predictions:
        add_row(table, result.filename, "-", "")


def _save(result: Classification) -> None:
    """Saves a heat map in the current folder, and says where. Overwrites nothing.

    The name of an image may come from a zip file or an address: control characters are replaced.

    Raises:
        OSError: the folder cannot be written to.
    """
    name = result.filename
    path = unquote(urlsplit(name).path) if is_uri(name) else name
    stem = printable(Path(path).stem)[:MAX_STEM_CHARACTERS] or "image"
    for number in itertools.count(1):
        file = Path(f"{stem}.heat-map{f'-{number}' if number > 1 else ''}.png")
        with contextlib.suppress(FileExistsError), file.open("xb") as written:
            written.write(result.heat_map)
            say(f"Heat map: {printable(file)}")
            return
