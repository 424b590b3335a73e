"""up, serve, migrate: what runs."""

import asyncio
import os
from typing import Annotated

import typer
import uvloop

from image_categorizer_server.cli.options import Data, note
from image_categorizer_server.db import database
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import DEFAULT_DATA, Installation, settings_for
from image_categorizer_server.settings import load_settings
from image_categorizer_server.telemetry import configure_logging


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(up)
    app.command()(serve)
    app.command()(migrate)


def up(
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Port for REST, gRPC and gRPC-web.")
    ] = 8080,
    data: Data = None,
) -> None:
    """Start everything on this machine: PostgreSQL, Redis, the server, a worker, Envoy.

    The first start makes the data folder, exports the starter model and prints an admin key, once.
    """
    try:
        from image_categorizer_server.local.up import run
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"{error.name} is not installed; "
            "`pip install 'image-categorizer-server[embedded]'` brings what `up` needs."
        ) from None

    settings = load_settings()
    configure_logging("WARNING", "console")
    installation = Installation(data or DEFAULT_DATA)
    console = note()
    console.print(
        f"image-categorizer up, data in {os.path.relpath(installation.data)}", markup=False
    )
    asyncio.run(
        run(
            installation,
            settings,
            port,
            lambda line: console.print(line, markup=False, soft_wrap=True),
        )
    )


def serve(
    one_of_many: Annotated[
        bool, typer.Option("--one-of-many", hidden=True, help="What several processes start.")
    ] = False,
) -> None:
    """Run the gRPC server alone, for production; settings come from the environment."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    if settings.server.processes > 1 and not one_of_many:
        from image_categorizer_server.local.processes import serve_together

        asyncio.run(serve_together(settings))
        return
    from image_categorizer_server.rpc.server import serve as run

    uvloop.run(run(settings, one_of_many=one_of_many))


def migrate(data: Data = None) -> None:
    """Bring the database's schema up to date; safe to repeat."""
    settings = settings_for(data)
    asyncio.run(database.migrate(settings.database_url, settings.database))
    note().print("The database is up to date.")
