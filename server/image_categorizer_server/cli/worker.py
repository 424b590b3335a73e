"""worker, drained, failpoints: what carries the batches."""

import asyncio
import time
from typing import Annotated

import typer

from image_categorizer_server.cli.classify import server_of
from image_categorizer_server.cli.key import with_database
from image_categorizer_server.cli.options import Data, note
from image_categorizer_server.db.pending import Pending, count_pending
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.failpoints import NAMES
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.telemetry import configure_logging

LOOK_INTERVAL_S = 0.2


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(worker)
    app.command()(drained)
    app.command()(failpoints)


def worker(data: Data = None) -> None:
    """Run WORKER_COUNT worker processes, for production; `up` has one already.

    Settings come from the environment; CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY
    say where the server is and who calls it: a key of the role worker. With --data they work
    for a running `up`.
    """
    from image_categorizer_server.local.workers import work_together

    settings = settings_for(data)
    configure_logging(settings.log_level, settings.log_format)
    base_url, api_key = server_of(data, Role.WORKER)
    environment = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "CATEGORIZER_CLIENT__BASE_URL": base_url,
        "CATEGORIZER_CLIENT__API_KEY": api_key,
        "CATEGORIZER_STORAGE__PATH": str(settings.storage.path),
    }
    asyncio.run(work_together(settings, environment))


def drained(
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most; without end by default.")
    ] = None,
    data: Data = None,
) -> None:
    """Wait until nothing is pending: no item, no message, no webhook."""
    pending = with_database(data, _wait(timeout))
    if pending.is_any:
        raise OperatorError(f"Still pending: {pending}.")
    note().print("Nothing is pending.")


async def _wait(timeout_s: float | None) -> Pending:
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            pending = await count_pending()
        except DependencyDown:
            if deadline_s is None or time.monotonic() >= deadline_s:
                raise
        else:
            if not pending.is_any or (deadline_s is not None and time.monotonic() >= deadline_s):
                return pending
        await asyncio.sleep(LOOK_INTERVAL_S)


def failpoints() -> None:
    """List the points at which CATEGORIZER_TEST__FAILPOINT="<name>:<n>" kills a process."""
    width = max(map(len, NAMES))
    for name, moment in NAMES.items():
        print(f"{name:<{width}}  {moment}")
