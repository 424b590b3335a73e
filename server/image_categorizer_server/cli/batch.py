"""batch: many images, classified in the background."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from image_categorizer import Batch, BatchOptions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from image_categorizer_server.cli.classify import expand
from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, note, out
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Classify many images in the background.", no_args_is_help=True)
BatchId = Annotated[str, typer.Argument(help="ID of the batch, as printed by `batch submit`.")]


class CountedFiles(list[Path]):
    """Files that report how many of them were read. The count restarts with each iteration."""

    def __init__(self, files: list[Path], on_progress: Callable[[int], None]) -> None:
        super().__init__(files)
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Path]:
        for count, file in enumerate(super().__iter__()):
            self._on_progress(count)
            yield file
        self._on_progress(len(self))


@app.command()
def submit(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders of images, or image files.", metavar="DIR|FILE")
    ],
    model: Annotated[
        str, typer.Option(help="Model to use. The server's default model if not set.")
    ] = "",
    top_k: Annotated[int, typer.Option(min=1, help="Maximum number of predictions per image.")] = 5,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum confidence of a prediction.")
    ] = 0.0,
    webhook_url: Annotated[str, typer.Option(help="URL to notify when the batch ends.")] = "",
    priority: Annotated[
        int,
        typer.Option(min=-10, max=10, help="Priority among your batches. Higher runs first."),
    ] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Upload images and print the ID of the batch. The batch then runs in the background."""
    files = expand(paths)
    options = BatchOptions(
        model=model,
        top_k=top_k,
        confidence_threshold=threshold,
        webhook_url=webhook_url,
        priority=priority,
    )
    with client_of(data) as client, _progress() as progress:
        task = progress.add_task("Uploading", total=len(files), rate="")
        counted = CountedFiles(files, lambda count: progress.update(task, completed=count))
        try:
            batch = client.batches.submit(counted, **options)
        except OSError as error:
            raise OperatorError(f"Cannot read {error.filename}: {error.strerror}.") from None
    print(json.dumps(_fields(batch)) if as_json else batch.batch_id)


@app.command()
def watch(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """Show the progress of a batch until it ends. Ctrl-C does not stop the batch.

    With --json, print one line per change.
    """
    with client_of(data) as client, _progress(is_shown=not as_json) as progress:
        task = progress.add_task("Waiting", total=None, rate="")
        for batch in client.batches.watch(batch_id):
            if as_json:
                print(json.dumps(_fields(batch)), flush=True)
            _update(progress, task, batch)
    _report_end(batch)


@app.command()
def results(
    batch_id: BatchId,
    file_format: Annotated[
        Literal["table", "jsonl", "csv"], typer.Option("--format", help="Output format.")
    ] = "table",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Print the results so far, in the order of the images.

    --json is short for --format jsonl.
    """
    with client_of(data) as client:
        if as_json or file_format != "table":
            exported: Literal["jsonl", "csv"] = "csv" if file_format == "csv" else "jsonl"
            for piece in client.batches.export(batch_id, exported):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        table = Table("file", "category", "confidence", box=None)
        for result in client.batches.results(batch_id):
            if result.error is not None:
                table.add_row(result.filename, f"- {result.error.reason}", "")
            elif result.category is None or result.confidence is None:
                table.add_row(result.filename, "-", "")
            else:
                table.add_row(result.filename, result.category, f"{result.confidence:.1%}")
        out().print(table)


@app.command()
def cancel(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """Cancel a batch. Results so far are kept."""
    with client_of(data) as client:
        _print_state(client.batches.cancel(batch_id), as_json)


@app.command()
def retry(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """Retry the failed images of a batch that has ended."""
    with client_of(data) as client:
        _print_state(client.batches.retry(batch_id), as_json)


def _progress(is_shown: bool = True) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    rate = TextColumn("{task.fields[rate]}")
    return Progress(*columns, rate, console=note(), transient=True, disable=not is_shown)


def _update(progress: Progress, task: TaskID, batch: Batch) -> None:
    rest = f", {batch.remaining_time.total_seconds():.0f} s left" if batch.remaining_time else ""
    rate = f"{batch.items_per_s:.0f}/s{rest}" if batch.items_per_s else ""
    failed = f", {batch.failed_count} failed" if batch.failed_count else ""
    progress.update(
        task,
        description=f"{batch.state.capitalize()}{failed}",
        total=batch.item_count,
        completed=batch.done_count,
        rate=rate,
    )


def _print_state(batch: Batch, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(batch)))
    else:
        note().print(f"{batch.batch_id} is {batch.state}", markup=False)


def _report_end(batch: Batch) -> None:
    """Prints how a batch ended.

    Raises:
        OperatorError: the batch did not complete, or images failed.
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


def _fields(batch: Batch) -> dict[str, object]:
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
