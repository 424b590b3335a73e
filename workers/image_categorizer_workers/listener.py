"""Listens to the doorbell with arq. The worker uses arq for nothing else."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from arq.worker import Worker, func
from image_categorizer_server.clock import jittered
from image_categorizer_server.stores.queue import CLASSIFY, QUEUE, Doorbell, dump_job, load_job
from image_categorizer_server.tasks import cancel_until_ended, uncancelled
from image_categorizer_server.telemetry import get_log
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

log = get_log(__name__)
POLL_INTERVAL_S = 0.1
RETRY_DELAY_S = 2.0
JOB_TIMEOUT_S = 10
HEALTH_CHECK_INTERVAL_S = 10
# arq repeats the job of a process that died.  Repeating it does no harm, so the limit is high.
MAX_TRIES = 1000


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
        finally:
            # What ended the worker also ended its jobs; their errors must not show up later.
            await uncancelled(cancel_until_ended(worker.tasks.values()))
        await asyncio.sleep(jittered(RETRY_DELAY_S))


def build_listener(doorbell: Doorbell, wake: Callable[[], None]) -> Worker:
    """Returns an arq worker that calls `wake` for each job."""

    # The job says which batch has work.  PostgreSQL decides what this process does first.
    async def classify(_context: object, _batch_id: str) -> None:
        wake()

    # Not by a settings class: arq ignores inherited attributes, and names it does not know.
    return Worker(
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
