"""Answers the doorbell; all that arq is for."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from arq.worker import Worker, func
from image_categorizer_server.queue import CLASSIFY, QUEUE, Doorbell, dump, load
from image_categorizer_server.telemetry import get_log
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

log = get_log(__name__)
POLL_S = 0.1
RETRY_S = 1.0, 3.0
JOB_S = 10
HEALTH_S = 10
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
        try:
            await worker.main()
        # An arq worker ends where Redis does; its tasks raise what went wrong in them.
        except (RedisError, OSError) as error:
            log.warning("nobody can ring: redis does not answer", error=repr(error))
        finally:
            for task in worker.tasks.values():
                task.cancel()
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
        await asyncio.sleep(random.uniform(*RETRY_S))  # noqa: S311 - no secret


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
        job_serializer=dump,
        job_deserializer=load,
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
