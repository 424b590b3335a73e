"""Listens to the doorbell with arq. The worker uses arq for nothing else.

Other programs can write to the same Redis.  arq ends, again and again, at a job that it cannot
read; here such a job is dropped: it is only a hint, and workers look for work by themselves too.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.worker import Worker, func
from image_categorizer_server.clock import jittered
from image_categorizer_server.stores.queue import CLASSIFY, QUEUE, Doorbell, dump_job, load_job
from image_categorizer_server.tasks import cancel_until_ended, uncancelled
from image_categorizer_server.telemetry import get_log
from redis.exceptions import RedisError, ResponseError

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

log = get_log(__name__)
POLL_INTERVAL_S = 0.1
RETRY_DELAY_S = 2.0
JOB_TIMEOUT_S = 10
HEALTH_CHECK_INTERVAL_S = 10
# arq repeats the job of a process that died.  Repeating it does no harm, so the limit is high.
MAX_TRIES = 1000
SHOWN_BYTES = 100


class Listener(Worker):
    """An arq worker that drops what it cannot read, instead of ending."""

    async def _poll_iteration(self) -> None:
        try:
            await super()._poll_iteration()
        except ResponseError:
            if await self.pool.type(self.queue_name) in (b"zset", b"none"):
                raise
            log.warning("dropped what was in the place of the queue", key=self.queue_name)
            await self.pool.delete(self.queue_name)

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Starts jobs, and drops those that have no readable ID or time."""
        # arq would pass over a time of 0 for ever.
        await self.pool.zremrangebyscore(self.queue_name, "-inf", 0)
        for job_id in job_ids:
            try:
                await super().start_jobs([job_id])
            except (ValueError, ArithmeticError, ResponseError) as error:
                self._release_sem_dec_counter_on_complete()
                await self._drop(job_id, error)

    async def run_job(self, job_id: str, score: int) -> None:
        """Runs a job, and drops it if its values have types that arq does not expect."""
        try:
            await super().run_job(job_id, score)
        except ResponseError as error:  # a key of the job holds something else
            await self._drop(job_id.encode(), error)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the values of a job cause
            await self._drop(job_id.encode(), error)

    async def _drop(self, job_id: bytes, error: Exception) -> None:
        log.warning("dropped an unreadable job", job=job_id[:SHOWN_BYTES], error=repr(error)[:200])
        prefixes = (job_key_prefix, retry_key_prefix, in_progress_key_prefix)
        await self.pool.delete(*(prefix.encode() + job_id for prefix in prefixes))
        await self.pool.zrem(self.queue_name, job_id)


async def listen(doorbell: Doorbell, wake: Callable[[], None]) -> None:
    """Calls `wake` each time the doorbell rings for this process, until cancelled.

    While Redis does not answer, it tries again every few seconds.
    """
    while True:
        worker = build_listener(doorbell, wake)
        try:
            await worker.main()
        except (RedisError, OSError) as error:  # it ends an arq worker
            log.warning("the doorbell is out of order: Redis does not answer", error=repr(error))
        except Exception:  # the batches under way must not end with it
            log.exception("the doorbell is out of order because of a bug")
        finally:
            # What ended the worker also ended its jobs; their errors must not show up later.
            await uncancelled(cancel_until_ended(worker.tasks.values()))
        await asyncio.sleep(jittered(RETRY_DELAY_S))


def build_listener(doorbell: Doorbell, wake: Callable[[], None]) -> Listener:
    """Returns an arq worker that calls `wake` for each job."""

    # The job says which batch has work.  PostgreSQL decides what this process does first.
    async def classify(_context: object, _batch_id: str) -> None:
        wake()

    # Not by a settings class: arq ignores inherited attributes, and names it does not know.
    return Listener(
        functions=[func(cast("WorkerCoroutine", classify), name=CLASSIFY)],
        queue_name=QUEUE,
        redis_pool=doorbell.arq,
        job_serializer=dump_job,
        job_deserializer=load_job,
        keep_result=0,
        max_tries=MAX_TRIES,
        job_timeout=JOB_TIMEOUT_S,
        max_jobs=10,
        poll_delay=POLL_INTERVAL_S,
        health_check_interval=HEALTH_CHECK_INTERVAL_S,
        handle_signals=False,  # `main` handles them
        job_completion_wait=JOB_TIMEOUT_S,
        log_results=False,
    )
