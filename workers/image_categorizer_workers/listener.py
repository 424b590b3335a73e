"""Answers the doorbell; all that arq is for."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from arq.worker import Worker, func
from image_categorizer_server.stores.queue import CLASSIFY, QUEUE, Doorbell, dump_job, load_job
from image_categorizer_server.telemetry import get_log
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

log = get_log(__name__)
POLL_S = 0.1
RETRY_S = 1.0, 3.0
JOB_S = 10
HEALTH_S = 10
CANCEL_S = 0.1
# A ring that an ended process took with it is rung again by arq; there is no use in counting.
MOST_TRIES = 1000


async def classify(context: dict[str, Any], _batch_id: str) -> None:
    """Wakes this process: what is to be done, and for whom first, PostgreSQL tells."""
    context["wake"]()


async def listen(doorbell: Doorbell, wake: Callable[[], None]) -> None:
    """Hears the bell until cancelled; while Redis does not answer it asks again every few seconds.

    Args:
        doorbell: what to hear.
        wake: is called for every ring that this process gets.
    """
    while True:
        worker = build_listener(doorbell, wake)
        running = asyncio.create_task(worker.main())
        try:
            await asyncio.wait({running})
            running.result()
        # An arq worker ends where Redis does; its tasks raise what went wrong in them.
        except (RedisError, OSError) as error:
            log.warning("nobody can ring: redis does not answer", error=repr(error))
        finally:
            await end({running, *worker.tasks.values()})
        await asyncio.sleep(random.uniform(*RETRY_S))  # noqa: S311 - no secret


async def end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they end: in arq and redis-py a cancellation was seen to get lost."""
    while tasks:
        for task in tasks:
            task.cancel()
        done, tasks = await asyncio.wait(tasks, timeout=CANCEL_S)
        for task in done:
            if not task.cancelled():
                task.exception()


def build_listener(doorbell: Doorbell, wake: Callable[[], None]) -> Worker:
    """Returns the arq worker, with every setting that matters.

    arq reads a settings class by its `__dict__`, without what it inherits, and falls back to
    `localhost` in silence; so there is no such class here.
    """
    return Worker(
        functions=[func(cast("WorkerCoroutine", classify), name=CLASSIFY)],
        queue_name=QUEUE,
        redis_pool=doorbell.arq,
        ctx={"wake": wake},
        job_serializer=dump_job,
        job_deserializer=load_job,
        keep_result=0,
        max_tries=MOST_TRIES,
        job_timeout=JOB_S,
        max_jobs=10,
        poll_delay=POLL_S,
        health_check_interval=HEALTH_S,
        handle_signals=False,  # `main` has them
        job_completion_wait=JOB_S,
        log_results=False,
    )
