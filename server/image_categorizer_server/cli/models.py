"""models: the model repository."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.embedded.installation import settings_for
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.manifest import Manifest, damage
from image_categorizer_server.inference.repository import Found, Repository, manifest_of
from image_categorizer_server.settings import Settings

app = typer.Typer(
    help="The model repository: list, add, pull, remove, verify.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="The model's name.")]


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List all models and their versions."""
    found = _repository(settings_for(data)).scan()
    manifests = [manifest_of(version) for version in found]
    if as_json:
        print(json.dumps([_fields(f, m) for f, m in zip(found, manifests, strict=True)], indent=1))
        return
    table = Table("name", "version", "categories", "input", "licence", "digest")
    for manifest in manifests:
        size = f"{manifest.input.width_px} x {manifest.input.height_px}"
        digest = manifest.digest[:19]
        table.add_row(
            manifest.name,
            str(manifest.version),
            str(len(manifest.categories)),
            size,
            manifest.licence,
            digest,
        )
    out().print(table)


@app.command()
def add(
    name: Name,
    path: Annotated[
        Path,
        typer.Argument(
            help="A Hugging Face folder: config.json, model.safetensors, preprocessor_config.json."
        ),
    ],
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    origin: Annotated[str, typer.Option(help="Where the weights come from.")] = "",
    taxonomy: Annotated[
        Path | None,
        typer.Option(
            help="JSON list of {name, id, ancestors} for the categories; ImageNet's are known.",
            exists=True,
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Add a model of your own as a new version; a running server takes it up within seconds.

    The model is exported to ONNX and compared with torch before it appears.
    """
    _add(name, path, licence, origin, taxonomy, settings_for(data))


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="resnet50, efficientnet_b0, mobilenet_v2, or owner/name on the Hugging Face hub."
        ),
    ],
    data: Data = None,
) -> None:
    """Download a model from the Hugging Face hub and add it."""
    from image_categorizer_server.inference.hub import downloaded, local_name

    settings = settings_for(data)
    with note().status(f"Downloading {name}"), downloaded(name) as (folder, origin):
        _add(local_name(name), folder, "", origin, None, settings)


@app.command()
def remove(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="One version; all by default.")] = None,
    data: Data = None,
) -> None:
    """Remove a model; a running server finishes what it has begun and lets go of it."""
    removed = _repository(settings_for(data)).remove(name, version)
    note().print(f"Removed {name}, version {', '.join(map(str, removed))}.")


@app.command()
def verify(data: Data = None) -> None:
    """Compare every file of every model with its manifest; exits with 1 where one differs."""
    damaged = 0
    for found in _repository(settings_for(data)).scan():
        wrong = damage(found.folder, manifest_of(found))
        damaged += bool(wrong)
        print(f"{found.name} {found.version}: {wrong or 'as its manifest says'}")
    if damaged:
        raise OperatorError(
            f"{damaged} model versions are damaged; remove them and add them again."
        )


def _repository(settings: Settings) -> Repository:
    return Repository(settings.model_path)


def _add(
    name: str, path: Path, licence: str, origin: str, taxonomy: Path | None, settings: Settings
) -> None:
    console = note()
    with console.status(f"Reading {path}"):
        from image_categorizer_server.inference.importer import (
            Labels,
            check_files,
            check_name,
            copy_model,
        )

        check_name(name)
        check_files(path)
        repository = _repository(settings)
        with repository.incoming() as incoming:
            labels = Labels(name, repository.latest(name) + 1, licence, origin, taxonomy)
            manifest = copy_model(path, incoming, labels)
            _refuse_twice(repository, manifest)
            console.print(
                f"{len(manifest.categories)} categories, "
                f"input {manifest.input.width_px} x {manifest.input.height_px}"
            )
            console.print(asyncio.run(_export(incoming, manifest, settings)))
            repository.publish(incoming, manifest)
    console.print(f"Added {name}, version {manifest.version}, {manifest.digest[:19]}", markup=False)


async def _export(folder: Path, manifest: Manifest, settings: Settings) -> str:
    from image_categorizer_server.inference.export import ensure_export

    models = settings.models
    _, verdict = await ensure_export(folder, manifest, models.cache_path, models.export_timeout_s)
    if verdict.accepted:
        return f"Exported to ONNX; differs from torch by at most {verdict.max_difference:.1e}"
    return f"torch will serve it, for {verdict.reason}"


def _refuse_twice(repository: Repository, manifest: Manifest) -> None:
    for found in repository.scan():
        if found.name == manifest.name and manifest_of(found).digest == manifest.digest:
            raise OperatorError(
                f"{manifest.name} version {found.version} has the same files already."
            )


def _fields(found: Found, manifest: Manifest) -> dict[str, object]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "categories": len(manifest.categories),
        "licence": manifest.licence,
        "origin": manifest.origin,
        "path": str(found.folder),
    }
