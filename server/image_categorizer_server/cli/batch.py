"""batch: many images, classified in the background."""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal, cast

import typer
from image_categorizer import Batch, BatchOptions, ImageCategorizationClient, Source
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from image_categorizer_server.cli.bars import counted, picture_of
from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.options import (
    Blur,
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
    Address,
    Pictures,
    Zip,
    count_of,
    find_pictures,
    report_found,
    uploadable,
)
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Classify many images in the background.", no_args_is_help=True)
BatchState = Literal["QUEUED", "RUNNING", "COMPLETED", "CANCELLING", "CANCELLED", "FAILED"]
BatchId = Annotated[str, typer.Argument(help="ID of the batch, as printed by `batch submit`.")]
# How many images `watch` counts the categories of: as many as a page of results has.
MOST_COUNTED = 1000
# How often it reads them.
READ_INTERVAL_S = 3.0


class CountedSources(list[Source]):
    """Sources that report how many of them were read. The count restarts with each iteration."""

    def __init__(self, sources: list[Source], on_progress: Callable[[int], None]) -> None:
        super().__init__(sources)
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Source]:
        for count, source in enumerate(super().__iter__()):
            self._on_progress(count)
            yield uploadable(source)
        self._on_progress(len(self))


@app.command()
def submit(
    images: Images,
    model: Model = "",
    version: Version = "",
    top_k: TopK = 5,
    threshold: Threshold = 0.0,
    include: Include = None,
    exclude: Exclude = None,
    bounding_boxes: BoundingBoxes = False,
    no_cache: NoCache = False,
    roll_up: RollUp = None,
    raw_confidence: RawConfidence = False,
    blur: Blur = None,
    webhook_url: Annotated[str, typer.Option(help="URL to notify when the batch ends.")] = "",
    priority: Annotated[
        int,
        typer.Option(min=-10, max=10, help="Priority among your batches. Higher runs first."),
    ] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Upload images and print the ID of the batch. The batch then runs in the background.

    Addresses are a batch of their own, without files.
    """
    shared = options_of(
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
    options = BatchOptions(webhook_url=webhook_url, priority=priority)
    options.update(cast(BatchOptions, shared))
    options["blur"] = blur or []
    with client_of(data) as client:
        found = find_pictures(images, client.server_info().image_formats)
        report_found(found, len(found.sources))
        count_of(found)
        for path, error in found.unreadable.items():
            raise OperatorError(f"{printable(path)}: {reason_of(error)}.")
        uris = [source.uri for source in found.sources if isinstance(source, Address)]
        if uris and len(uris) < len(found.sources):
            raise OperatorError("Give either files or addresses, not both at once.")
        if uris:
            batch = client.batches.submit_uris(uris, **options)
        else:
            batch = _upload(client, found, options)
    print(json.dumps(_fields(batch)) if as_json else batch.batch_id)


def _upload(client: ImageCategorizationClient, found: Pictures, options: BatchOptions) -> Batch:
    """Uploads files as a batch. The server unpacks zip files.

    Raises:
        OperatorError: a file cannot be read; there is no batch.
    """
    files = [
        source.path if isinstance(source, Zip) else source
        for source in found.sources
        if not isinstance(source, Address)
    ]
    with _progress() as progress:
        task = progress.add_task("Uploading", total=len(files), rate="")
        counted = CountedSources(files, lambda count: progress.update(task, completed=count))
        try:
            return client.batches.submit(counted, **options)
        except OSError as error:
            raise OperatorError(f"Cannot read {error.filename}: {error.strerror}.") from None


@app.command("list")
def list_(
    state: Annotated[
        BatchState | None, typer.Option(help="Show only batches in this state.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of batches.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List your batches, the newest first. With --json, print one line for each."""
    table = Table("batch", "state", "created", "images", "succeeded", "failed", box=None)
    with client_of(data) as client:
        for _, batch in zip(range(most), client.batches.list(state), strict=False):
            if as_json:
                print(json.dumps(_fields(batch)))
                continue
            counts = batch.item_count, batch.succeeded_count, batch.failed_count
            created = f"{batch.create_time.astimezone():%Y-%m-%d %H:%M}"
            add_row(table, batch.batch_id, batch.state, created, *map(str, counts))
    if not as_json:
        out().print(table)


@app.command()
def delete(batch_id: BatchId, data: Data = None) -> None:
    """Delete a batch that has ended: its results, and its images unless another batch has them."""
    with client_of(data) as client:
        client.batches.delete(batch_id)
    say(f"{batch_id} is deleted.")


@app.command()
def watch(batch_id: BatchId, data: Data = None, as_json: AsJson = False) -> None:
    """Show the progress of a batch until it ends. Ctrl-C does not stop the batch.

    A terminal also shows the most frequent categories of the first 1,000 images. With --json, print
    one line per change.
    """
    with client_of(data) as client:
        batches = client.batches.watch(batch_id)
        if not as_json and sys.stderr.isatty():
            batches = _shown(client, batches)
        for batch in batches:
            if as_json:
                print(json.dumps(_fields(batch)), flush=True)
    _report_end(batch)


def _shown(client: ImageCategorizationClient, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields the batch each time it changes, with its progress and its categories in view.

    The categories stay on the terminal; while the batch runs they are a few seconds old.
    """
    progress = _progress()
    task = progress.add_task("Waiting", total=None, rate="")
    picture, read_s = picture_of({}), -READ_INTERVAL_S
    with Live(console=note(), transient=True) as live:
        for batch in batches:
            is_due = batch.has_ended or time.monotonic() - read_s >= READ_INTERVAL_S
            if batch.done_count and is_due:
                read_s = time.monotonic()
                results = client.batches.results(batch.batch_id)
                picture = picture_of(counted(itertools.islice(results, MOST_COUNTED)))
            _update(progress, task, batch)
            live.update(Group(picture, progress))
            yield batch
    note().print(picture)


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
                add_row(table, result.filename, f"- {result.error.reason}", "")
            elif result.category is None or result.confidence is None:
                add_row(table, result.filename, "-", "")
            else:
                add_row(table, result.filename, result.category, f"{result.confidence:.1%}")
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


def _progress() -> Progress:
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    rate = TextColumn("{task.fields[rate]}", markup=False)
    is_disabled = not sys.stderr.isatty()
    return Progress(*columns, rate, console=note(), transient=True, disable=is_disabled)


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
        say(f"{batch.batch_id} is {batch.state}")


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
        why = f"; the first: {printable(first.filename)}, {first.error}" if first else ""
        raise OperatorError(f"{summary}, {batch.failed_count} failed{why}.")
    say(f"{summary}.")


def _fields(batch: Batch) -> dict[str, object]:
    rest = batch.remaining_time
    return {
        "batch_id": batch.batch_id,
        "state": batch.state,
        "item_count": batch.item_count,
        "succeeded_count": batch.succeeded_count,
        "failed_count": batch.failed_count,
        "pending_count": batch.pending_count,
        "ignored_count": batch.ignored_count,
        "items_per_s": batch.items_per_s,
        "remaining_s": rest.total_seconds() if rest else None,
    }
