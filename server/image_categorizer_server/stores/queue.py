"""The doorbell: an arq queue that wakes a worker when a batch has work.

PostgreSQL decides what there is to do.  A job in this queue is only a hint: it may get lost, arrive
twice, or arrive when there is nothing to do, because workers also look for work by themselves, only
later.  So results, retries and the order of jobs do not matter here.
"""

import json

from arq import ArqRedis

from image_categorizer_server.stores.redis import RedisClient

QUEUE = "image-categorizer:doorbell"
CLASSIFY = "classify"
"""The only kind of job. Its argument is the batch ID."""
RING_TIMEOUT_S = 0.5  # the caller of CreateBatch waits for it


def dump_job(value: object) -> bytes:
    """Returns a job as JSON; values that JSON cannot hold, such as exceptions, as their `repr`."""
    return json.dumps(value, default=repr).encode()


def load_job(content: bytes) -> dict[str, object]:
    """Returns the job that `dump_job` wrote.

    Raises:
        ValueError: it is not JSON.
    """
    job: dict[str, object] = json.loads(content)
    return job


class Doorbell:
    """Wakes workers."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        # Not pickle, arq's default: anyone who can write to Redis could run code in the workers.
        self.arq = ArqRedis(
            redis.pool,
            job_serializer=dump_job,
            job_deserializer=load_job,
            default_queue_name=QUEUE,
        )

    async def ring(self, batch_id: str) -> None:
        """Wakes one idle worker. Idempotent.

        Raises:
            DependencyDown: Redis does not answer.
        """
        # arq generates the job ID: it would drop a job whose ID it has seen before.
        await self._redis.run(lambda: self.arq.enqueue_job(CLASSIFY, batch_id), RING_TIMEOUT_S)
