"""classify: images by the command line."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from image_categorizer import (
    AsyncImageCategorizationClient,
    CategorizerError,
    Classification,
    ImageCategorizationClient,
    Options,
    Result,
    image_files,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from image_categorizer_server.cli.key import with_database
from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import (
    Installation,
    find_installation,
    settings_for,
)
from image_categorizer_server.services import key as admin

MANY = 3


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(classify)


def classify(
    paths: Annotated[
        list[Path], typer.Argument(help="Images, or folders of images.", metavar="FILE|DIR")
    ],
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
    base_url, api_key = server_of(data)
    files = _expanded(paths)
    options = Options(model=model, top_k=top_k, confidence_threshold=threshold)
    failed = asyncio.run(_classify_all(files, base_url, api_key, options, as_json))
    if failed:
        raise OperatorError(f"{failed} of {len(files)} images could not be classified.")


def server_of(data: Path | None, role: Role = Role.CLASSIFIER) -> tuple[str, str]:
    """Returns address and key of the server that the command means.

    Args:
        data: folder of an embedded installation; None: where it is by default.
        role: what the command needs; a key that settings name is taken as it is.

    Raises:
        OperatorError: no server is known.
    """
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
    return addresses.base_url, client.api_key or _own_key(installation, role)


@contextmanager
def client_of(
    data: Path | None, role: Role = Role.CLASSIFIER
) -> Iterator[ImageCategorizationClient]:
    """Yields a client of that server; what it raises becomes a sentence of the command line's.

    Raises:
        OperatorError: as `server_of`, and where the server refuses or does not answer.
    """
    base_url, api_key = server_of(data, role)
    with ImageCategorizationClient(api_key, base_url) as client:
        try:
            yield client
        except CategorizerError as error:
            raise OperatorError(error.message) from None


def _own_key(installation: Installation, role: Role) -> str:
    """Returns the command line's own key of a role, for an installation here; makes it if need be.

    Who may read the installation's folder may also read its database, so the key opens nothing new.
    """
    file = installation.own_key(role.name.lower())
    if not file.exists():
        secret = with_database(installation.data, admin.create_key("command line", role)).secret
        file.touch(mode=0o600)
        file.write_text(secret)
    return file.read_text().strip()


def _expanded(paths: list[Path]) -> list[Path]:
    """Returns the files, and in each folder's place its images."""
    files: list[Path] = []
    for path in paths:
        found = map(Path, image_files(path, None, True)) if path.is_dir() else [path]
        files.extend(found)
    if not files:
        raise OperatorError("There are no images in these folders.")
    return files


async def _classify_all(
    files: list[Path], base_url: str, api_key: str, options: Options, as_json: bool
) -> int:
    """Prints one result a file, in their order; returns how many failed."""
    table = Table("file", "category", "confidence", box=None)
    failed = 0
    console = note()
    is_many = len(files) >= MANY
    async with AsyncImageCategorizationClient(api_key, base_url) as client:
        with Progress(console=console, disable=not is_many, transient=True) as progress:
            task = progress.add_task("Classifying", total=len(files))
            results = client.classify_stream(
                files,
                lane="BATCH" if is_many else "INTERACTIVE",
                on_progress=lambda done, _: progress.update(task, completed=done),
                **options,
            )
            try:
                async for result in _in_order(files, results):
                    failed += _show(result, as_json, table, console)
            except CategorizerError as error:
                raise OperatorError(error.message) from None
            finally:
                if table.row_count:
                    out().print(table)
    return failed


async def _in_order(files: list[Path], results: AsyncIterator[Result]) -> AsyncIterator[Result]:
    """Yields the results in the files' order; those of one file in any."""
    early: defaultdict[str, list[Result]] = defaultdict(list)
    for file in files:
        while not early[str(file)]:
            result = await anext(results)
            early[result.key].append(result)
        yield early[str(file)].pop()


def _show(result: Result, as_json: bool, table: Table, console: Console) -> bool:
    """Prints a result, or adds it to the table; returns whether it is a failure."""
    classification = result.classification
    if classification is None:
        console.print(f"{result.filename}: {result.error}", markup=False, soft_wrap=True)
        return True
    if as_json:
        fields = asdict(classification)
        del fields["heat_map"]  # never asked for here
        best = {"category": result.category, "confidence": result.confidence}
        print(json.dumps(fields | best))
    else:
        _add_rows(table, classification)
    return False


def _add_rows(table: Table, result: Classification) -> None:
    for position, prediction in enumerate(result.predictions):
        name = result.filename if position == 0 else ""
        table.add_row(name, prediction.category, f"{prediction.confidence:.1%}")
    if not result.predictions:
        table.add_row(result.filename, "-", "")
