"""gateway, gateway-config: Envoy on its own, for production."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from image_categorizer_server.cli.output import say
from image_categorizer_server.local.gateway import within_open_files, write
from image_categorizer_server.settings import load_settings
from image_categorizer_server.telemetry import configure_logging

Folder = Annotated[
    Path, typer.Argument(help="Folder for envoy.yaml, and for the files that name certificates.")
]


def gateway_config(folder: Folder) -> None:
    """Write Envoy's configuration. Settings CATEGORIZER_GATEWAY__… say what is in it.

    Write it anew after each update: it belongs to the version of the servers.
    """
    file = write(within_open_files(load_settings()), folder)
    say(f"Wrote {file}. Start Envoy with it: envoy -c {file}")


def gateway(folder: Folder) -> None:
    """Run only the gateway, for production: write Envoy's configuration, and start Envoy with it.

    SIGTERM lets the calls in progress end, for CATEGORIZER_SERVER__DRAIN_S at most.
    """
    from image_categorizer_server.local.gateway_process import run_gateway

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    if status := asyncio.run(run_gateway(settings, folder, say)):
        raise typer.Exit(status)
