"""Commands that run the server and its workers, and that prepare and observe them."""

import asyncio
import os
import time
from typing import Annotated

import typer
import uvloop

from image_categorizer_server.cli.connection import Data, act_as_user, server_of, with_database
from image_categorizer_server.cli.output import say
from image_categorizer_server.db import schema
from image_categorizer_server.db.outbox import Pending, count_pending
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.failpoints import NAMES
from image_categorizer_server.local.installation import DEFAULT_DATA, Installation, settings_for
from image_categorizer_server.settings import load_settings
from image_categorizer_server.telemetry import configure_logging

PENDING_INTERVAL_S = 0.2
# Exit status of a command that Ctrl-C ended before it was done.
INTERRUPTED = 130


def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Port for REST, gRPC and gRPC-web. [default: 8080]",
            show_default=False,
        ),
    ] = None,
    tls: Annotated[
        bool,
        typer.Option("--tls", help="Serve with TLS, by a certificate that is made for it."),
    ] = False,
    data: Data = None,
) -> None:
    """Start everything on this machine: PostgreSQL, Redis, the server, a worker and Envoy.

    The first start creates the data folder, makes the packaged model and prints an admin key.
    Ctrl-C stops everything; a second Ctrl-C does not wait for it.
    """
    try:
        from image_categorizer_server.local.up import run
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"{error.name} is not installed. "
            "Run `pip install 'image-categorizer-server[embedded]'` to install what `up` needs."
        ) from None

    settings = load_settings()
    configure_logging("WARNING", "console")
    installation = Installation(data or DEFAULT_DATA)
    act_as_user()  # who creates keys at the first start
    say(f"image-categorizer up, data in {os.path.relpath(installation.data)}")
    is_complete = run(installation, settings, port or settings.gateway.port, say, tls=tls)
    if not asyncio.run(is_complete):
        raise typer.Exit(INTERRUPTED)


def serve(
    one_of_many: Annotated[
        bool,
        typer.Option("--one-of-many", hidden=True, help="Run one of several server processes."),
    ] = False,
) -> None:
    """Run only the gRPC server, for production. Settings come from environment variables."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, settings.log_refusals_per_s)
    if not one_of_many:
        from image_categorizer_server.local.processes import has_several_processes, run_servers

        if has_several_processes(settings):
            asyncio.run(run_servers(settings))
            return
    from image_categorizer_server.rpc.server import serve as run

    uvloop.run(run(settings, one_of_many=one_of_many))


def model_process() -> None:
    """Run the models of the server processes of this machine, which start it."""
    from image_categorizer_server.local.model_process import run_models

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, settings.log_refusals_per_s)
    uvloop.run(run_models(settings))


def migrate(data: Data = None) -> None:
    """Update the database schema. Safe to repeat."""
    settings = settings_for(data)
    asyncio.run(schema.migrate(settings.database_url, settings.database))
    say("The database schema is up to date.")


def worker(data: Data = None) -> None:
    """Run WORKER_COUNT worker processes, for production. `up` already runs one.

    Settings come from environment variables. Set CATEGORIZER_CLIENT__BASE_URL to the address of the
    server, and CATEGORIZER_CLIENT__API_KEY to a key with the role worker. With --data, the workers
    connect to a running `up`.
    """
    from image_categorizer_server.local.processes import run_workers

    settings = settings_for(data)
    configure_logging(settings.log_level, settings.log_format, settings.log_refusals_per_s)
    server = server_of(data, Role.WORKER)
    environment = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "CATEGORIZER_CLIENT__BASE_URL": server.base_url,
        "CATEGORIZER_CLIENT__API_KEY": server.api_key,
        "CATEGORIZER_CLIENT__ROOT_CERTIFICATES_PATH": server.root_certificates_path,
        "CATEGORIZER_CLIENT__SERVER_NAME": server.server_name,
        "CATEGORIZER_STORAGE__PATH": str(settings.storage.path),
    }
    asyncio.run(run_workers(settings, environment))


def drained(
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Maximum wait in seconds. No limit by default.")
    ] = None,
    data: Data = None,
) -> None:
    """Wait until no batch item, outbox message or webhook delivery is pending."""
    pending = with_database(data, _until_drained(timeout))
    if pending.is_any:
        raise OperatorError(f"Still pending: {pending}.")
    say("Nothing is pending.")


async def _until_drained(timeout_s: float | None) -> Pending:
    """Returns what is pending when nothing is, or when the time is up."""
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
        await asyncio.sleep(PENDING_INTERVAL_S)


def failpoints() -> None:
    """List the failpoints, for tests of crashes.

    CATEGORIZER_TEST__FAILPOINT="<name>:<n>" kills a process when it reaches the point for the n-th
    time.
    """
    width = max(map(len, NAMES))
    for name, moment in NAMES.items():
        print(f"{name:<{width}}  {moment}")
