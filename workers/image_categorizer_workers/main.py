"""One worker process: builds its parts and runs them until SIGTERM."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from image_categorizer import AsyncImageCategorizationClient
from image_categorizer_server.db.database import open_database
from image_categorizer_server.egress.fetcher import Fetcher, open_fetcher
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.buckets import ObjectReader
from image_categorizer_server.stores.object_store import Storage, open_storage
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.telemetry import get_log

from image_categorizer_workers.chunk import Room, Tools, Work
from image_categorizer_workers.engine import Engine
from image_categorizer_workers.images import StoredOrFetched
from image_categorizer_workers.listener import end, listen
from image_categorizer_workers.quarantine import loaded
from image_categorizer_workers.streams import Feeds
from image_categorizer_workers.sweeper import Sweeper
from image_categorizer_workers.webhooks import send_webhooks

log = get_log(__name__)
ALIVE_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What one process is made of."""

    tools: Tools
    storage: Storage
    fetcher: Fetcher


async def work(settings: Settings) -> None:
    """Works until SIGTERM or SIGINT, then finishes or gives back; a second signal ends at once.

    Raises:
        OperatorError: a setting is wrong.
    """
    stop = asyncio.Event()
    _on_signals(stop)
    async with (
        open_parts(settings) as parts,
        open_redis(settings.redis_url, settings.redis) as redis,
    ):
        doorbell = Doorbell(redis)
        # Process numbers come again, in containers at every start.
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        engine = Engine(name, parts.tools)
        batches = Batches(parts.storage, settings.batch, settings.max_image_bytes)
        sweeper = Sweeper(doorbell, batches, engine.wake, settings.worker.lease_s)
        async with asyncio.TaskGroup() as group:
            others = {
                group.create_task(listen(doorbell, engine.wake)),
                group.create_task(sweeper.run(settings.worker.sweep_interval_s)),
                group.create_task(_show_life(settings.worker.alive_path)),
            }
            group.create_task(send_webhooks(settings, stop))
            working = group.create_task(engine.run())
            log.info("working", pid=os.getpid())
            await stop.wait()
            engine.stop()
            await working
            await end(others)
    log.info("stopped")


async def work_alone(settings: Settings) -> None:
    """Does the one chunk that standard input holds; its lease is the parent's."""
    chunk = loaded(sys.stdin.buffer.read())
    async with open_parts(settings) as parts:
        await Work(chunk, parts.tools).run()


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Yields what the work needs, the database open.

    Raises:
        OperatorError: nothing says where the server is, or a setting is wrong.
    """
    calls, worker = settings.client, settings.worker
    if not calls.base_url:
        raise OperatorError(
            "No server is known: set CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY."
        )
    async with (
        open_database(settings.database_url, settings.database),
        open_storage(settings) as storage,
        open_fetcher(settings.fetch, ObjectReader(settings).read) as fetcher,
        AsyncImageCategorizationClient(calls.api_key, calls.base_url) as client,
    ):
        feeds = Feeds(client, worker.stream_idle_s)
        tools = Tools(
            settings=worker,
            images=StoredOrFetched(storage, fetcher, settings.max_image_bytes),
            feeds=feeds,
            room=Room(worker.max_images, worker.max_image_bytes),
        )
        try:
            yield Parts(tools, storage, fetcher)
        finally:
            await feeds.close()


async def _show_life(path: str) -> None:
    """Touches a file every second; a process whose loop hangs lets it grow old."""
    if not path:
        return
    file = Path(path)
    try:
        while True:
            file.touch()  # noqa: ASYNC240 - a few microseconds
            await asyncio.sleep(ALIVE_INTERVAL_S)
    finally:
        file.unlink(missing_ok=True)  # noqa: ASYNC240 - as above


def _on_signals(stop: asyncio.Event) -> None:
    def stopped() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
