"""classify: images, answered at once."""

import asyncio
import json
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
    image_files,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from image_categorizer_server.cli.connection import Data, server_of
from image_categorizer_server.cli.output import AsJson, note, out
from image_categorizer_server.errors import OperatorError

# From this many images on, the command shows progress and asks for the batch lane.
MANY = 3


def classify(
    paths: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of images.", metavar="FILE|DIR")
    ],
    model: Annotated[
        str, typer.Option(help="Model to use. The server's default model if not set.")
    ] = "",
    top_k: Annotated[int, typer.Option(min=1, help="Maximum number of predictions per image.")] = 1,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum confidence of a prediction.")
    ] = 0.0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Classify images.

    A running `up` is found by its data folder and needs no API key. To use another server, set
    CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY.
    """
    base_url, api_key = server_of(data)
    files = expand(paths)
    options = Options(model=model, top_k=top_k, confidence_threshold=threshold)
    failed = asyncio.run(_classify_all(files, base_url, api_key, options, as_json))
    if failed:
        raise OperatorError(f"{failed} of {len(files)} images could not be classified.")


def expand(paths: list[Path]) -> list[Path]:
    """Returns the files, with each folder replaced by the images in it.

    Raises:
        OperatorError: the folders hold no images.
    """
    files: list[Path] = []
    for path in paths:
        files.extend(map(Path, image_files(path, None, True)) if path.is_dir() else [path])
    if not files:
        raise OperatorError("No images found in these folders.")
    return files


async def _classify_all(
    files: list[Path], base_url: str, api_key: str, options: Options, as_json: bool
) -> int:
    """Prints one result per file, in the order of the files. Returns how many failed."""
    table = Table("file", "category", "confidence", box=None)
    failed = 0
    console = note()
    is_many = len(files) >= MANY
    async with AsyncImageCategorizationClient(api_key, base_url) as client:
        with Progress(console=console, disable=not is_many, transient=True) as progress:
            task = progress.add_task("Classifying", total=len(files))
            results = client.classify_stream(
                files,
                lane="BATCH" if is_many else "INTERACTIVE",
                on_progress=lambda done, _: progress.update(task, completed=done),
                **options,
            )
            try:
                async for result in _in_order(files, results):
                    failed += _show(result, as_json, table, console)
            except CategorizerError as error:
                raise OperatorError(error.message) from None
            finally:
                if table.row_count:
                    out().print(table)
    return failed


async def _in_order(files: list[Path], results: AsyncIterator[Result]) -> AsyncIterator[Result]:
    """Yields the results in the order of the files. A file given twice has two results."""
    early: defaultdict[str, list[Result]] = defaultdict(list)
    for file in files:
        while not early[str(file)]:
            result = await anext(results)
            early[result.key].append(result)
        yield early[str(file)].pop()


def _show(result: Result, as_json: bool, table: Table, console: Console) -> bool:
    """Prints a result or adds it to the table. Returns whether it is a failure."""
    classification = result.classification
    if classification is None:
        console.print(f"{result.filename}: {result.error}", markup=False, soft_wrap=True)
        return True
    if as_json:
        fields = asdict(classification)
        del fields["heat_map"]  # the command never asks for one
        best = {"category": result.category, "confidence": result.confidence}
        print(json.dumps(fields | best))
    else:
        _add_rows(table, classification)
    return False


def _add_rows(table: Table, result: Classification) -> None:
    for position, prediction in enumerate(result.predictions):
        name = result.filename if position == 0 else ""
        table.add_row(name, prediction.category, f"{prediction.confidence:.1%}")
    if not result.predictions:
        table.add_row(result.filename, "-", "")
