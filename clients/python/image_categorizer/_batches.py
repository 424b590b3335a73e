"""What both clients share about batches: values, requests, the pieces of an upload."""

import os
import uuid
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from image_categorizer._calls import MEBIBYTE, ModelRef, Options, Prediction, bounding_box
from image_categorizer._streams import Source, image_files
from image_categorizer.errors import BatchTooLarge, CategorizerError, ImageTooLarge
from image_categorizer.statuses import from_status
from image_categorizer.v1 import batch_pb2, classify_pb2, types_pb2

Sources = str | os.PathLike[str] | Iterable[Source]
"""A folder of images; or files' paths and (name, encoded bytes), which may be made lazily."""

State = Literal["QUEUED", "RUNNING", "COMPLETED", "CANCELLING", "CANCELLED", "FAILED"]
"""See `Batch.State` in batch.proto."""

ExportFormat = Literal["jsonl", "csv"]

CHUNK_BYTES = MEBIBYTE
PAGE_SIZE = 1000
MOST_UPLOADS = 4
"""How often an upload is begun whose sources can be read again."""


class BatchOptions(Options, total=False):
    """How a batch is run, as keyword arguments; see `BatchConfig` in batch.proto."""

    webhook_url: str
    request_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one item of a batch: predictions, or an error."""

    item_id: str
    filename: str
    """As it was given."""
    predictions: tuple[Prediction, ...] = ()
    """The most confident first; empty where nothing reached the threshold, or it failed."""
    model: ModelRef | None = None
    """The network that answered; None where the item failed."""
    error: CategorizerError | None = None
    """What `classify_image` would have raised."""

    @property
    def category(self) -> str | None:
        """The most probable category; None where it failed, or nothing reached the threshold."""
        return self.predictions[0].category if self.predictions else None

    @property
    def confidence(self) -> float | None:
        """The confidence of `category`, in [0, 1]."""
        return self.predictions[0].confidence if self.predictions else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Many images that are classified together, as they are now."""

    batch_id: str
    state: State
    state_message: str
    """Why it is FAILED; empty otherwise."""
    item_count: int
    succeeded_count: int
    failed_count: int
    pending_count: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    webhook_url: str
    failures: tuple[BatchResult, ...] = field(repr=False)
    """Some of the failures, at most 20."""
    items_per_s: float
    remaining_time: timedelta | None

    @property
    def done_count(self) -> int:
        """How many items have an outcome."""
        return self.succeeded_count + self.failed_count

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it, unless it is retried."""
        return self.state in ("COMPLETED", "CANCELLED", "FAILED")

    def raise_unless_completed(self) -> None:
        """Passes a batch all of whose items have an outcome.

        Raises:
            CategorizerError: it was cancelled, or could not run.
        """
        if self.state != "COMPLETED":
            why = self.state_message or f"{self.pending_count} items have no outcome"
            raise CategorizerError(f"batch {self.batch_id} is {self.state}: {why}")


BatchProgress = Callable[[Batch], None]
"""Hears of a batch whenever it changes."""


def batch(wire: batch_pb2.Batch) -> Batch:
    """Returns a batch as a plain value."""
    state: State = batch_pb2.Batch.State.Name(wire.state)  # type: ignore[assignment]
    has_rest = wire.HasField("remaining_time")
    return Batch(
        batch_id=wire.batch_id,
        state=state,
        state_message=wire.state_message,
        item_count=wire.item_count,
        succeeded_count=wire.succeeded_count,
        failed_count=wire.failed_count,
        pending_count=wire.pending_count,
        create_time=_time(wire.create_time),
        start_time=_time(wire.start_time) if wire.HasField("start_time") else None,
        end_time=_time(wire.end_time) if wire.HasField("end_time") else None,
        webhook_url=wire.webhook_url,
        failures=tuple(
            BatchResult(f.item_id, f.filename, error=_error(f.status)) for f in wire.failures
        ),
        items_per_s=wire.items_per_s,
        remaining_time=wire.remaining_time.ToTimedelta() if has_rest else None,
    )


def result(wire: batch_pb2.BatchResult) -> BatchResult:
    """Returns the outcome of one item as a plain value."""
    if wire.status.code:
        return BatchResult(wire.item_id, wire.filename, error=_error(wire.status))
    model = wire.classification.model
    predictions = tuple(map(_prediction, wire.classification.predictions))
    ref = ModelRef(model.name, model.version, model.digest)
    return BatchResult(wire.item_id, wire.filename, predictions, ref)


def config_of(given: BatchOptions) -> batch_pb2.BatchConfig:
    """Returns the configuration; where it names no request, one by which it can be sent again."""
    options: dict[str, Any] = dict(given)
    return batch_pb2.BatchConfig(
        webhook_url=options.pop("webhook_url", ""),
        request_id=options.pop("request_id", "") or str(uuid.uuid4()),
        priority=options.pop("priority", 0),
        options=classify_pb2.ClassifyOptions(**options),
    )


def uris_request(
    uris: Iterable[str], config: batch_pb2.BatchConfig
) -> batch_pb2.CreateBatchRequest:
    """Returns the request for images that the server fetches."""
    return batch_pb2.CreateBatchRequest(
        items=[batch_pb2.BatchItem(image_uri=uri) for uri in uris],
        options=config.options,
        webhook_url=config.webhook_url,
        request_id=config.request_id,
        priority=config.priority,
    )


def uris_refused(error: ImageTooLarge) -> BatchTooLarge:
    """Returns what it means that gRPC itself refuses a message that holds URIs."""
    ours = BatchTooLarge("these are more URIs than one message holds: submit several batches")
    ours.status, ours.request_id = error.status, error.request_id
    return ours


def list_request(state: State | None) -> batch_pb2.ListBatchesRequest:
    """Returns the request for the first page of batches."""
    wanted = batch_pb2.Batch.State.Value(state or "STATE_UNSPECIFIED")
    return batch_pb2.ListBatchesRequest(page_size=PAGE_SIZE, state=wanted)


def expanded(
    sources: Sources | AsyncIterable[Source],
) -> Iterable[Source] | AsyncIterable[Source]:
    """Returns the images of a folder where a path is given; else what is given.

    Raises:
        NotADirectoryError: the path is no folder.
    """
    if isinstance(sources, str | os.PathLike):
        return image_files(sources, None, recursive=True)
    return sources


def is_replayable(sources: object) -> bool:
    """Returns whether the sources can be read a second time."""
    return isinstance(sources, Sequence | set | frozenset)


def pieces(source: Source) -> Iterator[batch_pb2.UploadBatchRequest]:
    """Yields the messages that send one image; blocks while a file is read.

    Raises:
        OSError: the file cannot be read.
        TypeError: it is neither a path nor a name and bytes.
    """
    match source:
        case str() | os.PathLike():
            name = os.fspath(source)
            with Path(source).open("rb") as file:
                yield _begin(name, file.read(CHUNK_BYTES))
                while chunk := file.read(CHUNK_BYTES):
                    yield batch_pb2.UploadBatchRequest(chunk=chunk)
        case (str() as name, bytes() as content):
            yield _begin(name, content[:CHUNK_BYTES])
            for start in range(CHUNK_BYTES, len(content), CHUNK_BYTES):
                yield batch_pb2.UploadBatchRequest(chunk=content[start : start + CHUNK_BYTES])
        case _:
            raise TypeError(f"a source is a path or (name, bytes), not {source!r:.100}")


def _begin(name: str, chunk: bytes) -> batch_pb2.UploadBatchRequest:
    file = batch_pb2.UploadBatchFile(filename=name, chunk=chunk)
    return batch_pb2.UploadBatchRequest(file=file)


def _error(status: status_pb2.Status) -> CategorizerError:
    return from_status(status, "")


def _prediction(wire: types_pb2.Prediction) -> Prediction:
    box = bounding_box(wire.bounding_box)
    return Prediction(wire.category, wire.confidence, wire.category_id, tuple(wire.ancestors), box)


def _time(wire: Timestamp) -> datetime:
    return wire.ToDatetime(UTC)
