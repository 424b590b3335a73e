"""Worker processes: how one starts, how several run side by side, and with whose key they call."""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from image_categorizer_server.access.api_key import sha256_of
from image_categorizer_server.db.database import open_database
from image_categorizer_server.db.key import find_key
from image_categorizer_server.domain.access import Role
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import STOP_S, Part, Supervisor
from image_categorizer_server.services import key as admin
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.database import DatabaseSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
READY_S = 60.0


def worker_part(name: str, alive: Path, settings: Settings, environment: dict[str, str]) -> Part:
    """Returns one worker process; it is ready when it looks for work.

    Args:
        name: of the part.
        alive: the file by which it shows that it lives.
        settings: ours.
        environment: settings in which it differs from our own environment.
    """
    alive.unlink(missing_ok=True)

    async def is_ready() -> bool:
        return alive.exists()  # noqa: ASYNC240 - a few microseconds

    return Part(
        name=name,
        command=[sys.executable, "-m", "image_categorizer_workers"],
        is_ready=is_ready,
        ready_within_s=READY_S,
        stop_within_s=settings.worker.grace_s + STOP_S,
        environment={
            **os.environ,
            **environment,
            "CATEGORIZER_WORKER__ALIVE_PATH": str(alive),
        },
    )


async def work_together(settings: Settings, environment: dict[str, str]) -> None:
    """Runs `WORKER_COUNT` processes until SIGTERM or SIGINT; one that dies is started again.

    A second signal kills them.

    Args:
        settings: ours.
        environment: settings in which the processes differ from our own environment.

    Raises:
        OperatorError: the first process does not start.
    """
    supervisor = Supervisor(None, None, log.warning)
    stop = asyncio.Event()

    def stopped() -> None:
        if stop.is_set():
            supervisor.kill()
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
    with tempfile.TemporaryDirectory(prefix="image-categorizer-workers-") as folder:
        names = [f"worker-{n}" for n in range(1, settings.worker_count + 1)]
        parts = [worker_part(name, Path(folder, name), settings, environment) for name in names]

        async def work() -> None:
            await supervisor.start(*parts)
            log.info("all processes are ready", processes=len(parts))
            await supervisor.watch()

        await supervisor.run(work(), stop)


async def worker_key(
    installation: Installation, database_url: str, settings: DatabaseSettings
) -> str:
    """Returns the key with which the workers of an installation call its server.

    It is kept in the installation's folder, and made anew where the database does not know it; who
    may read the folder may also read the database, so the key opens nothing new.

    Raises:
        DependencyDown: the database does not answer.
    """
    file = installation.data / "worker.key"
    async with open_database(database_url, settings):
        if file.exists():
            secret = file.read_text().strip()
            key = await find_key(sha256_of(secret))
            if key and not key.revoke_time and key.role is Role.WORKER:
                return secret
        secret = (await admin.create_key("workers", Role.WORKER)).secret
    file.touch(mode=0o600)
    file.write_text(secret)
    return secret
