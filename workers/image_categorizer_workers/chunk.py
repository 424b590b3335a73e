"""One chunk, from its lease to its last outcome.

    items ─▶ read ─▶ classify ─▶ outcomes ─▶ written under the lease, some together
                                    heartbeat ─▶ the lease goes on, or all of it stops

Whatever is lost with this process is done again by the next one that gets the lease.
"""

import asyncio
import time
from collections.abc import AsyncIterator
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
    Category,
    Classification,
    ModelRef,
    Prediction,
    Timing,
)
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.worker import WorkerSettings
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.breaks import Sender
from image_categorizer_workers.leases import LeaseLost, backoff_s, keep
from image_categorizer_workers.outcome import ItsOwn, OfTheBatch, Passing, verdict_of
from image_categorizer_workers.streams import Feeds

log = get_log(__name__)
GUESSED_BYTES = 2**20  # of an image of which only the address is known


class BatchBroken(Exception):
    """Expected: no item of the batch can be classified as it asks."""


class NotNow(Exception):
    """Expected: the server, or a store, has not answered for longer than we wait with a lease."""


class Images(Protocol):
    """Where the bytes of an item come from."""

    async def read(self, item: BatchItem) -> bytes:
        """Returns the encoded image."""
        ...


class Room:
    """How many more images this process may hold, by their number and by their bytes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._held = 0
        self._held_bytes = 0
        self._given = asyncio.Condition()

    @asynccontextmanager
    async def of(self, size_bytes: int) -> AsyncIterator[None]:
        """Waits until one more may be held, however large it is, and holds it."""
        async with self._given:
            await self._given.wait_for(
                lambda: self._held < self._most and self._held_bytes < self._most_bytes
            )
            self._held += 1
            self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held -= 1
            self._held_bytes -= size_bytes
            async with self._given:
                self._given.notify()


@dataclass(frozen=True, slots=True)
class Tools:
    """What the work on every chunk shares."""

    settings: WorkerSettings
    images: Images
    feeds: Feeds
    room: Room


class Work:
    """The work on one chunk."""

    def __init__(self, chunk: Chunk, tools: Tools) -> None:
        self._chunk = chunk
        self._tools = tools
        self._settings = tools.settings
        self._sender = Sender(chunk, tools.feeds, tools.settings)
        self._outcomes: asyncio.Queue[ItemOutcome] = asyncio.Queue()
        self._unwritten: list[ItemOutcome] = []

    async def run(self) -> None:
        """Does the chunk, or what can be done of it; cancelled, it gives the rest back.

        Raises:
            DependencyDown: the database does not answer, and the chunk stays leased.
        """
        try:
            await self._do()
        except asyncio.CancelledError:
            await self._give_back(0.0)
            raise
        except ExceptionGroup as group:
            await self._stopped_by(group)

    async def _stopped_by(self, group: ExceptionGroup[Exception]) -> None:
        if broken := _one_of(group, BatchBroken):
            log.warning("a batch cannot run", why=str(broken), **self._names())
            await chunks.fail_batch(self._chunk, str(broken))
        elif _one_of(group, LeaseLost):
            log.warning("a lease was lost; its outcomes are discarded", **self._names())
        elif _one_of(group, NotNow):
            log.warning("a chunk goes back: what it needs does not answer", **self._names())
            await self._give_back(self._settings.patience_s / 2)
        else:
            raise group

    async def _do(self) -> None:
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(keep(self._chunk, self._settings.lease_s))
            for item in self._chunk.items:
                group.create_task(self._item(item))
            await self._write_all()
            beating.cancel()

    async def _item(self, item: BatchItem) -> None:
        async with self._tools.room.of(item.size_bytes or GUESSED_BYTES):
            outcome = await self._outcome(item)
        self._outcomes.put_nowait(outcome)

    async def _outcome(self, item: BatchItem) -> ItemOutcome:
        """Tries until the image has an outcome.

        Raises:
            BatchBroken, NotNow, LeaseLost: it will get none here.
        """
        content, attempts, waits = None, 0, 0
        patient_until_s = time.monotonic() + self._settings.patience_s
        while True:
            try:
                content = content or await self._tools.images.read(item)
                failpoints.hit("image.read", item.filename)
                answer = await self._sender.classify(item.number, content)
                failpoints.hit("image.classified", item.filename)
                return ItemOutcome(item.number, classification=_as_ours(answer))
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - judged, every one
                verdict = verdict_of(error)
                waits += 1
                log.debug("an image failed", item=item.number, error=repr(error), **self._names())
            wait_s = 0.0
            match verdict:
                case ItsOwn(item_error):
                    return ItemOutcome(item.number, error=item_error)
                case OfTheBatch(message):
                    raise BatchBroken(message)
                case Passing(wait_s):
                    if time.monotonic() > patient_until_s:
                        raise NotNow
                case _:
                    attempts += 1
                    if attempts >= self._settings.max_attempts:
                        return ItemOutcome(item.number, error=verdict.error)
            await asyncio.sleep(max(wait_s, backoff_s(waits)))

    async def _write_all(self) -> None:
        left = len(self._chunk.items)
        while left:
            self._unwritten.append(await self._outcomes.get())
            write_at_s = asyncio.get_running_loop().time() + self._settings.record_interval_s
            most = min(left, self._settings.record_items)
            try:
                async with asyncio.timeout_at(write_at_s):
                    while len(self._unwritten) < most:
                        self._unwritten.append(await self._outcomes.get())
            except TimeoutError:
                pass
            left -= len(self._unwritten)
            await self._write()

    async def _write(self) -> None:
        """Writes the outcomes; while the database does not answer, as long as the lease is ours."""
        attempts = 0
        while self._unwritten:
            try:
                if not await results.record(self._chunk, self._unwritten):
                    raise LeaseLost
                self._unwritten = []
            except DependencyDown:
                attempts += 1
                await asyncio.sleep(backoff_s(attempts))

    async def _give_back(self, wait_s: float) -> None:
        """Writes what is done and ends the lease, the chunk's deaths uncounted.

        Raises:
            DependencyDown: the database does not answer, and the chunk stays leased.
        """
        failpoints.hit("chunk.returning")
        while not self._outcomes.empty():
            self._unwritten.append(self._outcomes.get_nowait())
        if not self._unwritten or await results.record(self._chunk, self._unwritten):
            await chunks.give_back(self._chunk, wait_s)

    def _names(self) -> dict[str, object]:
        return {"batch_id": self._chunk.batch_id, "chunk": self._chunk.number}


def _one_of(group: ExceptionGroup[Exception], kind: type[Exception]) -> Exception | None:
    """Returns the first error of a kind; None where there is none."""
    return next((error for error in group.exceptions if isinstance(error, kind)), None)


def _as_ours(answer: Answer) -> Classification:
    predictions = [
        Prediction(Category(p.category, p.category_id, p.ancestors), p.confidence, p.bounding_box)
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
    )
