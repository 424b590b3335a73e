"""models: the model repository."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import (
    AsJson,
    add_row,
    out,
    printable,
    say,
)
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import ALIAS, CANARY
from image_categorizer_server.inference.models.manifest import Manifest, damage
from image_categorizer_server.inference.models.packaged import ensure_packaged, repository_of
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.local.installation import (
    find_installation,
    settings_for,
)
from image_categorizer_server.settings import Settings

app = typer.Typer(
    help="Manage the models in the repository of this machine, or those of a server.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Name of the model.")]


def repository_settings(data: Path | None) -> Settings:
    """Returns the settings with the model repository to act on, and says which it is.

    Raises:
        OperatorError: the command is meant for a server whose repository is elsewhere.
    """
    settings = settings_for(data)
    if server := remote_server(data, settings):
        raise OperatorError(
            f"This command changes files, and cannot reach those of the server {server}. Run it "
            "where the server's models are, with MODEL_PATH or --data."
        )
    installation = find_installation(data)
    if installation is None:
        reader = "servers with this MODEL_PATH read it"
    elif installation.is_running:
        reader = "the running server reads it"
    else:
        reader = "no server is running"
    say(f"Model repository: {settings.model_path}; {reader}.")
    return settings


def open_repository(settings: Settings) -> Repository:
    """Returns the repository, with the packaged model."""
    try:
        asyncio.run(ensure_packaged(settings.models))
    except OperatorError as error:
        say(str(error))
    return repository_of(settings)


def remote_server(data: Path | None, settings: Settings) -> str:
    """Returns the address of the server that a command is meant for; "" if it is for files."""
    is_for_files = data is not None or "MODEL_PATH" in os.environ
    return "" if is_for_files else settings.client.base_url


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List all models and their versions.

    With CATEGORIZER_CLIENT__BASE_URL, those that the server knows, with their states.
    """
    if server := remote_server(data, settings_for(data)):
        _list_served(server, as_json)
        return
    repository = open_repository(repository_settings(data))
    versions = list(usable(repository))
    if as_json:
        print(json.dumps([_fields(repository, *version) for version in versions], indent=1))
        return
    table = Table("name", "version", "aliases", "promotion")
    for column in ("precision", "categories", "input", "licence", "digest"):
        table.add_column(column)
    for _, manifest in versions:
        add_row(
            table,
            manifest.name,
            str(manifest.version),
            ", ".join(repository.aliases_of(manifest.name, manifest.version)),
            _promotion(repository, manifest),
            manifest.precision,
            str(len(manifest.categories)),
            f"{manifest.input.width_px} x {manifest.input.height_px}",
            manifest.licence,
            manifest.digest[:19],
        )
    out().print(table)
    for _, manifest in versions:
        if manifest.quantization:
            say(f"{manifest.name} version {manifest.version}: {manifest.quantization}.")


def usable(repository: Repository) -> Iterator[tuple[Found, Manifest]]:
    """Yields the versions with their manifests. Says which have none, and what is no model."""
    for found in repository.scan():
        try:
            yield found, manifest_of(found)
        except OperatorError as error:
            say(f"{found.name} version {found.version} cannot be used: {error}")
    for path, reason in repository.passed_over.items():
        say(f"Passed over: {path}: {reason}.")


def _promotion(repository: Repository, manifest: Manifest) -> str:
    """Returns whether a version has passed the promotion policy; empty if there is none."""
    try:
        promotion = repository.promotion(manifest.name)
        if promotion is None:
            return ""
        if not repository.promotion_refusal(manifest.name, manifest.version):
            return "passed"
        return "not passed" if manifest.version in promotion.checks else "not checked"
    except OperatorError:
        return "policy unreadable"


def _list_served(server: str, as_json: bool) -> None:
    say(f"Models of the server {server}.")
    with client_of(None) as client:
        models = client.models.list()
    if as_json:
        print(json.dumps([asdict(model) for model in models], indent=1))
        return
    table = Table(
        "name", "version", "state", "aliases", "categories", "memory", "licence", "digest"
    )
    for model in models:
        add_row(
            table,
            model.name,
            model.version,
            model.state,
            ", ".join(model.aliases),
            str(model.category_count),
            f"{model.resident_bytes / 1e6:.0f} MB",
            model.licence,
            model.digest[:19],
        )
    out().print(table)


@app.command()
def load(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(min=1, help="Version to load. The newest by default.")
    ] = None,
    data: Data = None,
) -> None:
    """Let the server load a version that it has unloaded, or that failed."""
    with client_of(data, Role.ADMIN) as client:
        model = client.models.load(name, "" if version is None else version)
    say(f"{model.name}, version {model.version}, is {model.state}.")


@app.command()
def unload(
    name: Name,
    version: Annotated[str, typer.Argument(help="Version to unload: a number or an alias.")],
    data: Data = None,
) -> None:
    """Let the server unload a version. Its files stay in the repository."""
    with client_of(data, Role.ADMIN) as client:
        model = client.models.unload(name, version)
    say(f"{model.name}, version {model.version}, is {model.state}.")


def _fields(repository: Repository, found: Found, manifest: Manifest) -> dict[str, object]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "aliases": repository.aliases_of(manifest.name, manifest.version),
        "promotion": _promotion(repository, manifest),
        "digest": manifest.digest,
        "format": manifest.format,
        "precision": manifest.precision,
        "quantization": manifest.quantization and manifest.quantization.model_dump(),
        "categories": len(manifest.categories),
        "licence": manifest.licence,
        "origin": manifest.origin,
        "path": str(found.folder),
    }


@app.command()
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="stable, canary, or any other name.")],
    version: Annotated[
        int | None, typer.Argument(min=1, help="Version that the alias points to.")
    ] = None,
    canary_percent: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="Percentage of requests that canary answers, among those without a version.",
        ),
    ] = 0.0,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    data: Data = None,
) -> None:
    """Point an alias to a version. Running servers follow once they have loaded the version.

    Requests without a version are answered by stable, or by the newest version if there is no
    stable.
    """
    if not ALIAS.fullmatch(alias):
        raise typer.BadParameter(
            "use 1 to 32 lower-case letters, digits and hyphens, starting with a letter",
            param_hint="ALIAS",
        )
    if remove == (version is not None):
        raise typer.BadParameter("give either a version or --remove", param_hint="VERSION")
    if canary_percent and (alias != CANARY or remove):
        raise typer.BadParameter("applies to the alias canary only", param_hint="--canary-percent")
    if remote_server(data, settings_for(data)):
        with client_of(data, Role.ADMIN) as client:
            model = client.models.set_alias(
                name, alias, version or "", canary_percent=canary_percent
            )
        say(f"{model.name}, version {model.version}: {', '.join(model.aliases) or 'no aliases'}")
        return
    repository = open_repository(repository_settings(data))
    held = [found.version for found in repository.scan() if found.name == name]
    if not held or (version is not None and version not in held):
        wanted = name if version is None or not held else f"{name} version {version}"
        raise OperatorError(
            f"There is no model {wanted}. Run `image-categorizer models list` to see all models."
        )
    aliases = repository.change_alias(name, alias, version, canary_percent)
    shown = ", ".join(f"{key} is version {number}" for key, number in aliases.versions.items())
    share = f"; canary gets {aliases.canary_percent:g} %" if aliases.canary_percent else ""
    say(f"{name}: {shown or 'no aliases'}{share}")


@app.command()
def verify(data: Data = None) -> None:
    """Compare all files of all models with their manifests. The exit code is 1 if any differs."""
    damaged = 0
    for found in open_repository(repository_settings(data)).scan():
        try:
            difference = damage(found.folder, manifest_of(found))
        except OperatorError as error:
            difference = str(error)
        damaged += bool(difference)
        print(printable(f"{found.name} {found.version}: {difference or 'matches its manifest'}"))
    if damaged:
        raise OperatorError(f"Damaged model versions: {damaged}. Remove them and add them again.")


@app.command()
def remove(
    name: Name,
    version: Annotated[
        int | None, typer.Option(min=1, help="Version to remove. All versions by default.")
    ] = None,
    data: Data = None,
) -> None:
    """Remove a model. A running server finishes its current requests, then unloads it."""
    removed = open_repository(repository_settings(data)).remove(name, version)
    say(f"Removed {name}, version {', '.join(map(str, removed))}.")
