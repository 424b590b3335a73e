"""Batches of small contents, and workers that answer from the content alone."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import grpc
from image_categorizer.v1 import batch_pb2_grpc
from image_categorizer_server import clock
from image_categorizer_server.db import chunk as chunks
from image_categorizer_server.db import result as results
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import (
    BatchConfig,
    BatchItem,
    Chunk,
    ItemError,
    ItemOutcome,
)
from image_categorizer_server.domain.classification import (
    BatchCloseReason,
    Box,
    Category,
    Classification,
    ModelRef,
    Prediction,
    Timing,
)
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.upload import NewItem
from image_categorizer_server.stores.object_store import Storage

from tests.support.pictures import jpeg

Item = TypeVar("Item")

PICTURES = [jpeg(64, 48, seed) for seed in range(5)]
SOURCES = [(f"{number}.jpg", content) for number, content in enumerate(PICTURES)]
LEASE_S = 30.0
MODEL = ModelRef("fake", 1, "sha256:0")
TIMING = Timing(1.0, 2.0, 3.0, 4, BatchCloseReason.FULL)
BAD = ItemError("INVALID_ARGUMENT", "IMAGE_UNDECODABLE", "not an image")


async def pieces(*contents: bytes) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


async def files(contents: Sequence[bytes], prefix: str = "f") -> AsyncIterator[NewItem]:
    for number, content in enumerate(contents):
        yield NewItem(f"{prefix}{number}.jpg", pieces(content[:2], content[2:]), None)


async def numbered(count: int, prefix: str = "f") -> AsyncIterator[NewItem]:
    """Files whose contents all differ."""
    for number in range(count):
        yield NewItem(f"{prefix}{number}.jpg", pieces(f"{prefix} {number}".encode()), None)


async def links(count: int) -> AsyncIterator[NewItem]:
    for number in range(count):
        yield NewItem(f"u{number}", None, f"https://example.com/{number}.jpg")


async def make_batch(batches: Batches, count: int, tenant: str = "t1", **config: Any) -> str:
    """Returns the name of a new batch of different files."""
    batch = await batches.create(tenant, "key", BatchConfig(**config), numbered(count))
    return batch.batch_id


def category_of(sha256: str) -> str:
    return f"category {int(sha256[:2], 16) % 10}"


def right_outcome(item: BatchItem) -> ItemOutcome:
    sha256 = (item.object_key or "00").rpartition("/")[2]
    predictions = [
        Prediction(Category(category_of(sha256), "c1", ("a", "b")), 0.75, (Box(1, 2, 3, 4),))
    ]
    return ItemOutcome(item.number, Classification(predictions, MODEL, TIMING))


def failed_outcome(item: BatchItem) -> ItemOutcome:
    return ItemOutcome(item.number, error=BAD)


async def do_chunk(chunk: Chunk) -> bool:
    return await results.record(chunk, [right_outcome(item) for item in chunk.items])


async def do_all(bad: frozenset[int] = frozenset()) -> int:
    """Does all chunks that are ready, as workers do; returns how many items that were."""
    count = 0
    while chunk := await chunks.claim("w", LEASE_S):
        outcomes = [
            failed_outcome(item) if item.number in bad else right_outcome(item)
            for item in chunk.items
        ]
        assert await results.record(chunk, outcomes)
        count += len(chunk.items)
    return count


async def sweep(batches: Batches) -> int:
    """Removes all that may be removed, as a worker's sweeper does; returns the number of images."""
    await batches.remove_rows(1000)
    return await batches.remove_images(1000)


async def keys_of(storage: Storage) -> list[str]:
    return sorted([found.key async for found in storage.list()])


async def all_of(items: AsyncIterable[Item]) -> list[Item]:
    return [item async for item in items]


async def batch_stub(server, role: Role = Role.CLASSIFIER):
    """Returns a stub of a running server's BatchService, and the headers of a role."""
    channel = grpc.aio.insecure_channel(server.address)
    headers = (("authorization", f"Bearer {await server.key(role)}"),)
    return batch_pb2_grpc.BatchServiceStub(channel), headers


async def count_undone() -> int:
    """Returns how many rows of the outbox are not done."""
    return await _count("SELECT count(*) FROM outbox WHERE done_time IS NULL")


async def count_waiting() -> int:
    """Returns how many items wait in chunks that may be claimed, over all tenants."""
    return await _count(
        "SELECT coalesce(sum(item_count - done_count), 0) FROM batch_chunks"
        " WHERE state = 'READY' AND available_at <= now()"
    )


async def _count(query: str) -> int:
    async with connected() as connection:
        return cast("int", await connection.fetchval(query))


def advance_clock(seconds: float) -> None:
    """Lets the clock that leases and expiry read jump ahead."""
    ahead = clock.now() - datetime.now(UTC)
    clock.shift(ahead.total_seconds() + seconds)
