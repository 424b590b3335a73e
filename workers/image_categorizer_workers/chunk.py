"""Runs one chunk, from its lease to its last outcome.

    items ─▶ read ─▶ classify ─▶ outcomes ─▶ written together, under the lease
                                    keep_lease ─▶ extends the lease, or ends everything

If this process dies, the next one that leases the chunk repeats what was not written.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from image_categorizer import Classification as Answer
from image_categorizer_server import failpoints
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.domain.batch import BatchItem, Chunk, ItemOutcome
from image_categorizer_server.domain.classification import (
    BatchCloseReason,
    Box,
    CacheStatus,
    Category,
    Classification,
    ImageWarning,
    ModelRef,
    Prediction,
    Source,
    Timing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.worker import WorkerSettings
from image_categorizer_server.stores.sealing import Sealer
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.telemetry.metrics import BATCH_ITEMS, OK

from image_categorizer_workers.leases import LeaseLost, keep_lease, retry_backoff
from image_categorizer_workers.outcome import BatchFails, ItemFails, RetryLater, outcome_of
from image_categorizer_workers.quarantine import IsolatingClassifier
from image_categorizer_workers.streams import StreamPool

log = get_log(__name__)
ASSUMED_BYTES = 2**20  # size of an image of which only the URI is known


class BatchUnrunnable(Exception):
    """No image of the batch can be classified with its options."""


class PatienceExhausted(Exception):
    """The server or a store has not answered for `patience_s`."""


class ImageReader(Protocol):
    """Reads the images of items."""

    async def read(self, item: BatchItem) -> bytes:
        """Returns the encoded image."""
        ...


class MemoryLimiter:
    """Limits the images that this process holds, by their number and their bytes."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._images = 0
        self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        """Who waits, in order, and the bytes of their images."""

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Waits until another image may be held, and counts it during the block.

        The last image may exceed the limit of bytes, so that no image is too large to pass.
        """
        await self._take(size_bytes)
        try:
            yield
        finally:
            self._free(size_bytes)

    async def _take(self, size_bytes: int) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((admitted, size_bytes))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # it was admitted at the same moment
                self._free(size_bytes)
            raise

    def _free(self, size_bytes: int) -> None:
        self._images -= 1
        self._bytes -= size_bytes
        self._admit()

    def _admit(self) -> None:
        """Admits as many as fit: one large image that goes makes space for many small ones.

        Whoever frees the memory counts it for those who get it, so no wake-up can be lost.
        """
        while self._waiting and self._images < self._max_images and self._bytes < self._max_bytes:
            admitted, size_bytes = self._waiting.popleft()
            if not admitted.done():  # otherwise its waiter was cancelled
                self._images += 1
                self._bytes += size_bytes
                admitted.set_result(None)


@dataclass(frozen=True, slots=True)
class Components:
    """What all chunks use."""

    settings: WorkerSettings
    images: ImageReader
    sealer: Sealer
    """Encrypts results."""
    streams: StreamPool
    memory: MemoryLimiter


class ChunkRunner:
    """Runs one chunk."""

    def __init__(self, chunk: Chunk, components: Components) -> None:
        self._chunk = chunk
        self._components = components
        self._settings = components.settings
        self._classifier = IsolatingClassifier(chunk, components.streams, components.settings)
        self._outcomes: asyncio.Queue[ItemOutcome] = asyncio.Queue()
        self._unwritten: list[ItemOutcome] = []
        self._names = {"batch_id": chunk.batch_id, "chunk": chunk.number}

    async def run(self) -> None:
        """Runs the chunk as far as possible. Gives back the rest, also if cancelled.

        Raises:
            DependencyDown: the database does not answer. The chunk stays leased.
        """
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(keep_lease(self._chunk, self._settings.lease_s))
                for item in self._chunk.items:
                    group.create_task(self._run_item(item))
                await self._write_all()
                keeping.cancel()
        except asyncio.CancelledError:
            await self._give_back()
            raise
        except ExceptionGroup as group_error:
            await self._stop_because_of(group_error)

    async def _stop_because_of(self, group: ExceptionGroup[Exception]) -> None:
        if unrunnable := _first(group, BatchUnrunnable):
            log.warning("a batch cannot run", reason=str(unrunnable), **self._names)
            await chunks.fail_batch(self._chunk, str(unrunnable))
        elif _first(group, LeaseLost):
            log.warning("a lease was lost; its outcomes are discarded", **self._names)
        elif _first(group, PatienceExhausted):
            log.warning("a chunk is given back: a dependency does not answer", **self._names)
            await self._give_back(self._settings.patience_s / 2)
        else:
            raise group

    async def _run_item(self, item: BatchItem) -> None:
        async with self._components.memory.hold(item.size_bytes or ASSUMED_BYTES):
            outcome = await self._outcome_of(item)
        self._outcomes.put_nowait(outcome)

    async def _outcome_of(self, item: BatchItem) -> ItemOutcome:
        """Tries until the image has an outcome.

        Raises:
            BatchUnrunnable, PatienceExhausted, LeaseLost: it will have none in this run.
        """
        content, attempts = None, 0
        backoff = retry_backoff()
        patient_until_s = time.monotonic() + self._settings.patience_s
        while True:
            try:
                content = content or await self._components.images.read(item)
                failpoints.hit("image.read", item.filename)
                answer = await self._classifier.classify(item, content)
                failpoints.hit("image.classified", item.filename)
                return ItemOutcome(item.number, classification=_classification_of(answer))
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - `outcome_of` judges every error
                outcome = outcome_of(error)
                log.debug("an attempt failed", item=item.number, error=repr(error), **self._names)
            retry_after_s = 0.0
            match outcome:
                case ItemFails(item_error):
                    return ItemOutcome(item.number, error=item_error)
                case BatchFails(message):
                    raise BatchUnrunnable(message)
                case RetryLater(retry_after_s):
                    if time.monotonic() > patient_until_s:
                        raise PatienceExhausted
                case _:
                    attempts += 1
                    if attempts >= self._settings.max_attempts:
                        return ItemOutcome(item.number, error=outcome.error)
            await asyncio.sleep(max(retry_after_s, backoff.next_s()))

    async def _write_all(self) -> None:
        """Writes outcomes as they come, several in one transaction, until all are written."""
        left = len(self._chunk.items)
        while left:
            self._unwritten.append(await self._outcomes.get())
            write_at_s = asyncio.get_running_loop().time() + self._settings.record_interval_s
            wanted = min(left, self._settings.record_items)
            try:
                async with asyncio.timeout_at(write_at_s):
                    while len(self._unwritten) < wanted:
                        self._unwritten.append(await self._outcomes.get())
            except TimeoutError:
                pass
            left -= len(self._unwritten)
            await self._write()

    async def _write(self) -> None:
        """Writes outcomes. Tries again while the database does not answer and the lease lasts."""
        backoff = retry_backoff()
        while self._unwritten:
            try:
                if not await self._record():
                    raise LeaseLost
                _count(self._unwritten)
                self._unwritten = []
            except DependencyDown:
                await asyncio.sleep(backoff.next_s())

    async def _record(self) -> bool:
        """Writes outcomes; returns False if the lease is lost."""
        return await results.record(self._chunk, self._unwritten, self._components.sealer)

    async def _give_back(self, delay_s: float = 0.0) -> None:
        """Writes the outcomes so far and ends the lease, without counting a crash.

        Raises:
            DependencyDown: the database does not answer. The chunk stays leased.
        """
        failpoints.hit("chunk.returning")
        while not self._outcomes.empty():
            self._unwritten.append(self._outcomes.get_nowait())
        if not self._unwritten or await self._record():
            await chunks.give_back(self._chunk, delay_s)


def _count(outcomes: Iterable[ItemOutcome]) -> None:
    for outcome in outcomes:
        BATCH_ITEMS.labels(outcome.error.reason if outcome.error else OK).inc()


def _first(group: ExceptionGroup[Exception], kind: type[Exception]) -> Exception | None:
    return next((error for error in group.exceptions if isinstance(error, kind)), None)


def _classification_of(answer: Answer) -> Classification:
    predictions = [
        Prediction(
            Category(p.category, p.category_id, p.ancestors),
            p.confidence,
            tuple(Box(*edges) for edges in p.bounding_boxes),
            p.raw_confidence,
            Source.known(p.source),
        )
        for p in answer.predictions
    ]
    timing = answer.timing
    return Classification(
        predictions=predictions,
        model=ModelRef(answer.model.name, int(answer.model.version), answer.model.digest),
        timing=Timing(
            timing.decode_ms,
            timing.queue_ms,
            timing.inference_ms,
            timing.batch_size,
            BatchCloseReason.IDLE,
        ),
        cache=CacheStatus[answer.cache] if answer.cache else CacheStatus.OFF,
        warnings=ImageWarning.known(answer.warnings),
    )
