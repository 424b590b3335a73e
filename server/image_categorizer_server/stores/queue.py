"""The doorbell: tells a worker that a batch has work; the one door to arq.

The truth is in PostgreSQL.  What rings here may be lost, rung twice, or rung for nothing: workers
look for work by themselves too, only later.  So arq is asked for nothing that it does not keep: no
results, no tries, no order.  Jobs are JSON; arq's default is pickle, by which whoever can write to
Redis runs code in a worker.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import RedisSettings

QUEUE = "image-categorizer:bell"
CLASSIFY = "classify"
"""The one kind of job: its argument is the batch."""
RING_S = 0.5  # a caller waits for it, and need not


def dump(value: object) -> bytes:
    """Returns a job as JSON; what JSON cannot hold, such as an exception, as its `repr`."""
    return json.dumps(value, default=repr).encode()


def load(content: bytes) -> Any:
    """Returns the job that `dump` wrote.

    Raises:
        ValueError: somebody else wrote it.
    """
    return json.loads(content)


class Doorbell:
    """Rings for batches."""

    def __init__(self, arq: ArqRedis) -> None:
        """Wraps a client, which is closed by whoever made it."""
        self.arq = arq

    async def ring(self, batch_id: str) -> None:
        """Wakes one idle worker; ringing again does no harm.

        Raises:
            DependencyDown: Redis does not answer.
        """
        try:
            async with asyncio.timeout(RING_S):
                # arq makes an id of its own: under one that it knows it would keep silent.
                await self.arq.enqueue_job(CLASSIFY, batch_id)
        except (RedisError, OSError) as error:
            raise DependencyDown("redis does not answer") from error


@asynccontextmanager
async def open_doorbell(url: str, settings: RedisSettings) -> AsyncIterator[Doorbell]:
    """Yields a doorbell; connects on first use.

    Raises:
        OperatorError: the address is not one of Redis.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=settings.pool_size,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
        )
    except ValueError as error:
        raise OperatorError(f"REDIS_URL is wrong: {error}") from None
    arq = ArqRedis(pool, job_serializer=dump, job_deserializer=load, default_queue_name=QUEUE)
    try:
        yield Doorbell(arq)
    finally:
        await arq.aclose()
        await pool.aclose()
