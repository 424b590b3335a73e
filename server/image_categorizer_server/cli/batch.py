"""batch: many images by the command line, in the background."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from image_categorizer import (
    Batch,
    BatchOptions,
    image_files,
)
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from image_categorizer_server.cli.classify import client_of
from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Sort many images in the background.", no_args_is_help=True)
BatchId = Annotated[str, typer.Argument(help="The batch, as `batch submit` printed it.")]


class Files(list[Path]):
    """Files that tell how many of them were read; a second reading tells from the start."""

    def __init__(self, files: list[Path], told: Callable[[int], None]) -> None:
        super().__init__(files)
        self._told = told

    def __iter__(self) -> Iterator[Path]:
        for count, file in enumerate(super().__iter__()):
            self._told(count)
            yield file
        self._told(len(self))


@app.command()
def submit(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders of images, or images.", metavar="DIR|FILE")
    ],
    model: Annotated[
        str, typer.Option(help="The model to ask; the server's default otherwise.")
    ] = "",
    top_k: Annotated[int, typer.Option(min=1, help="The most predictions of an image.")] = 5,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The least confidence to be kept.")
    ] = 0.0,
    webhook_url: Annotated[str, typer.Option(help="Who is told when the batch ends.")] = "",
    priority: Annotated[
        int, typer.Option(min=-10, max=10, help="The greater the sooner, among your batches.")
    ] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Upload images, and print the name of the batch: the rest needs nobody."""
    files: list[Path] = []
    for path in paths:
        files.extend(map(Path, image_files(path, None, True)) if path.is_dir() else [path])
    if not files:
        raise OperatorError("There are no images in these folders.")
    options = BatchOptions(
        model=model,
        top_k=top_k,
        confidence_threshold=threshold,
        webhook_url=webhook_url,
        priority=priority,
    )
    with client_of(data) as client, _bar() as bar:
        task = bar.add_task("Uploading", total=len(files), rate="")
        told = Files(files, lambda count: bar.update(task, completed=count))
        try:
            batch = client.submit_batch(told, **options)
        except OSError as error:
            raise OperatorError(f"{error.filename} cannot be read: {error.strerror}.") from None
    print(json.dumps(_fields(batch)) if as_json else batch.batch_id)


@app.command()
def watch(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """Show how far a batch is, until it has ended; Ctrl-C leaves the batch alone.

    With --json a line for each change.
    """
    with client_of(data) as client, _bar(is_shown=not as_json) as bar:
        task = bar.add_task("Waiting", total=None, rate="")
        for batch in client.watch_batch(batch_id):
            if as_json:
                print(json.dumps(_fields(batch)), flush=True)
            _show(bar, task, batch)
    _end(batch)


@app.command()
def results(
    batch_id: BatchId,
    file_format: Annotated[
        Literal["table", "jsonl", "csv"], typer.Option("--format", help="The form of the results.")
    ] = "table",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Print the results that there are, by image; --json is --format jsonl."""
    with client_of(data) as client:
        if as_json or file_format != "table":
            form: Literal["jsonl", "csv"] = "csv" if file_format == "csv" else "jsonl"
            for piece in client.export_batch(batch_id, form):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        table = Table("file", "category", "confidence", box=None)
        for result in client.batch_results(batch_id):
            if result.error is not None:
                table.add_row(result.filename, f"- {result.error.reason}", "")
            elif result.category is None or result.confidence is None:
                table.add_row(result.filename, "-", "")
            else:
                table.add_row(result.filename, result.category, f"{result.confidence:.1%}")
        out().print(table)


@app.command()
def cancel(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """End a batch early."""
    with client_of(data) as client:
        _say(client.cancel_batch(batch_id), as_json)


@app.command()
def retry(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """Begin the failed images of an ended batch again."""
    with client_of(data) as client:
        _say(client.retry_batch(batch_id), as_json)


def _bar(is_shown: bool = True) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    rate = TextColumn("{task.fields[rate]}")
    return Progress(*columns, rate, console=note(), transient=True, disable=not is_shown)


def _show(bar: Progress, task: TaskID, batch: Batch) -> None:
    rest = f", {batch.remaining_time.total_seconds():.0f} s left" if batch.remaining_time else ""
    rate = f"{batch.items_per_s:.0f}/s{rest}" if batch.items_per_s else ""
    failed = f", {batch.failed_count} failed" if batch.failed_count else ""
    bar.update(
        task,
        description=f"{batch.state.capitalize()}{failed}",
        total=batch.item_count,
        completed=batch.done_count,
        rate=rate,
    )


def _say(batch: Batch, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(batch)))
    else:
        note().print(f"{batch.batch_id} is {batch.state}", markup=False)


def _end(batch: Batch) -> None:
    """Says how a batch ended.

    Raises:
        OperatorError: not every image has its categories.
    """
    summary = f"{batch.succeeded_count} of {batch.item_count} images were classified"
    if batch.state != "COMPLETED":
        why = f": {batch.state_message}" if batch.state_message else ""
        raise OperatorError(f"The batch is {batch.state}{why}; {summary}.")
    if batch.failed_count:
        first = batch.failures[0] if batch.failures else None
        why = f"; the first: {first.filename}, {first.error}" if first else ""
        raise OperatorError(f"{summary}, {batch.failed_count} failed{why}.")
    note().print(f"{summary}.", markup=False)


def _fields(batch: Batch) -> dict[str, Any]:
    rest = batch.remaining_time
    return {
        "batch_id": batch.batch_id,
        "state": batch.state,
        "item_count": batch.item_count,
        "succeeded_count": batch.succeeded_count,
        "failed_count": batch.failed_count,
        "pending_count": batch.pending_count,
        "items_per_s": batch.items_per_s,
        "remaining_s": rest.total_seconds() if rest else None,
    }
