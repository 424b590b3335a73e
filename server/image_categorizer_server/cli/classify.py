"""classify: images, answered at once."""

import asyncio
import base64
import contextlib
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    Classification,
    Options,
    Result,
)
from rich.progress import Progress
from rich.table import Table

from image_categorizer_server.cli.connection import Data, server_of
from image_categorizer_server.cli.options import (
    BoundingBoxes,
    Exclude,
    Include,
    Model,
    NoCache,
    Threshold,
    TopK,
    Version,
    options_of,
)
from image_categorizer_server.cli.output import AsJson, add_row, note, out, printable, say
from image_categorizer_server.cli.pictures import find_pictures, key_of, sendable, uris_of
from image_categorizer_server.errors import OperatorError

# From this many images on, the command shows progress and asks for the batch lane.
MANY = 3


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders of images, or - for standard input.", metavar="FILE|DIR|-"
        ),
    ],
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
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Classify images.

    A running `up` is found by its data folder and needs no API key. To use another server, set
    CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY.
    """
    if uris_of(paths):
        raise OperatorError(
            "This command takes files. Run `image-categorizer batch submit` to classify addresses."
        )
    base_url, api_key = server_of(data)
    options = options_of(
        model, version, top_k, threshold, include, exclude, bounding_boxes, no_cache
    )
    options["explain"] = explain
    count, failed = asyncio.run(_classify_all(paths, base_url, api_key, options, as_json))
    if failed:
        raise OperatorError(f"{failed} of {count} images could not be classified.")


async def _classify_all(
    paths: list[str], base_url: str, api_key: str, options: Options, as_json: bool
) -> tuple[int, int]:
    """Prints one result per file, in the order of the files.

    Returns how many files there were, and how many of them failed.
    """
    columns = ["file", "category", "confidence", *(["box"] if options["bounding_boxes"] else [])]
    table = Table(*columns, box=None)
    failed = 0
    async with AsyncImageCategorizationClient(api_key, base_url) as client:
        try:
            formats = (await client.server_info()).image_formats
            files = find_pictures(paths, formats).files
            is_many = len(files) >= MANY
            is_shown = is_many and sys.stderr.isatty()
            with Progress(console=note(), disable=not is_shown, transient=True) as progress:
                task = progress.add_task("Classifying", total=len(files))
                results = client.classify_stream(
                    files,
                    lane="BATCH" if is_many else "INTERACTIVE",
                    on_progress=lambda done, _: progress.update(task, completed=done),
                    **options,
                )
                async for result in _in_order([key_of(file) for file in files], results):
                    failed += _show(result, as_json, table)
        except CategorizerError as error:
            raise OperatorError(error.message) from None
        finally:
            if table.row_count:
                out().print(table)
    return len(files), failed


async def _in_order(keys: list[str], results: AsyncIterator[Result]) -> AsyncIterator[Result]:
    """Yields the results in the order of the files. A file given twice has two results."""
    early: defaultdict[str, list[Result]] = defaultdict(list)
    for key in keys:
        while not early[key]:
            result = await anext(results)
            early[result.key].append(result)
        yield early[key].pop()


def _show(result: Result, as_json: bool, table: Table) -> bool:
    """Prints a result or adds it to the table. Returns whether it is a failure."""
    classification = result.classification
    if classification is None:
        say(f"{printable(result.filename)}: {result.error}")
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
        name = result.filename if position == 0 else ""
        box = prediction.bounding_box
        boxes = [", ".join(map(str, box)) if box else "-"] if len(table.columns) > 3 else []
        add_row(table, name, prediction.category, f"{prediction.confidence:.1%}", *boxes)
    if not result.predictions:
        add_row(table, result.filename, "-", "")


def _save(result: Classification) -> None:
    """Saves a heat map in the current folder, and says where. Overwrites nothing.

    Raises:
        OSError: the folder cannot be written to.
    """
    stem = Path(result.filename).stem
    for number in itertools.count(1):
        file = Path(f"{stem}.heat-map{f'-{number}' if number > 1 else ''}.png")
        with contextlib.suppress(FileExistsError), file.open("xb") as written:
            written.write(result.heat_map)
            say(f"Heat map: {printable(file)}")
            return
