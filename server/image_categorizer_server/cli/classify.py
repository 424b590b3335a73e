"""classify: images by the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from image_categorizer import AsyncImageCategorizationClient, CategorizerError, Classification
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from image_categorizer_server import admin
from image_categorizer_server.cli.keys import with_database
from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.domain import Role
from image_categorizer_server.embedded.installation import (
    Installation,
    find_installation,
    settings_for,
)
from image_categorizer_server.errors import OperatorError

MANY = 3
AT_ONCE = 8


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(classify)


def classify(
    files: Annotated[list[Path], typer.Argument(help="Images.", metavar="FILE")],
    model: Annotated[
        str, typer.Option(help="The model to ask; the server's default otherwise.")
    ] = "",
    top_k: Annotated[int, typer.Option(min=1, help="The most predictions of an image.")] = 1,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The least confidence to be shown.")
    ] = 0.0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Classify images.

    A running `up` is found by --data and needs no key; another server is told by
    CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY.
    """
    base_url, api_key = _server(data)
    failed = asyncio.run(_classify_all(files, base_url, api_key, model, top_k, threshold, as_json))
    if failed:
        raise OperatorError(f"{failed} of {len(files)} images could not be classified.")


def _server(data: Path | None) -> tuple[str, str]:
    """Returns address and key of the server that the command means."""
    client = settings_for(data).client
    if client.base_url:
        return client.base_url, client.api_key
    installation = find_installation(data)
    addresses = installation.addresses() if installation else None
    if installation is None or addresses is None:
        raise OperatorError(
            "No server is known: start one with `image-categorizer up`, "
            "or set CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY."
        )
    return addresses.base_url, client.api_key or _own_key(installation)


def _own_key(installation: Installation) -> str:
    """Returns the command line's own key for an installation here, made when first needed.

    Who may read the installation's folder may also read its database, so the key opens nothing new.
    """
    if not installation.client_key.exists():
        secret = with_database(
            installation.data, admin.create_key("command line", Role.CLASSIFIER)
        ).secret
        installation.client_key.touch(mode=0o600)
        installation.client_key.write_text(secret)
    return installation.client_key.read_text().strip()


async def _classify_all(
    files: list[Path],
    base_url: str,
    api_key: str,
    model: str,
    top_k: int,
    threshold: float,
    as_json: bool,
) -> int:
    """Prints one result a file, in their order; returns how many failed."""
    table = Table("file", "category", "confidence", box=None)
    failed = 0
    async with AsyncImageCategorizationClient(api_key, base_url) as client:
        outcomes = _outcomes(client, files, model, top_k, threshold)
        console = note()
        with Progress(console=console, disable=len(files) < MANY, transient=True) as progress:
            task = progress.add_task("Classifying", total=len(files))
            async for file, outcome in outcomes:
                progress.advance(task)
                failed += _show(file, outcome, as_json, table, console)
    if table.row_count:
        out().print(table)
    return failed


async def _outcomes(
    client: AsyncImageCategorizationClient,
    files: list[Path],
    model: str,
    top_k: int,
    threshold: float,
) -> AsyncIterator[tuple[Path, Classification | Exception]]:
    """Yields the files in order, a few of them under way at once."""

    async def classify_one(file: Path) -> Classification | Exception:
        try:
            return await client.classify_image(
                file, model=model, top_k=top_k, confidence_threshold=threshold
            )
        except (CategorizerError, OSError) as error:
            return error

    under_way: list[asyncio.Task[Classification | Exception]] = []
    for position, file in enumerate(files):
        while len(under_way) < min(position + AT_ONCE, len(files)):
            under_way.append(asyncio.create_task(classify_one(files[len(under_way)])))
        yield file, await under_way[position]


def _show(
    file: Path, outcome: Classification | Exception, as_json: bool, table: Table, console: Console
) -> bool:
    """Prints an outcome, or adds it to the table; returns whether it is a failure."""
    if isinstance(outcome, Exception):
        console.print(f"{file}: {outcome}", markup=False, soft_wrap=True)
        return True
    if as_json:
        print(
            json.dumps(
                asdict(outcome) | {"category": outcome.category, "confidence": outcome.confidence}
            )
        )
    else:
        _add_rows(table, file, outcome)
    return False


def _add_rows(table: Table, file: Path, result: Classification) -> None:
    for position, prediction in enumerate(result.predictions):
        table.add_row(
            str(file) if position == 0 else "", prediction.category, f"{prediction.confidence:.1%}"
        )
    if not result.predictions:
        table.add_row(str(file), "-", "")
