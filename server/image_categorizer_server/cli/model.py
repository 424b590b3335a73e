"""models: the model repository."""

import json
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import Manifest, damage
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.settings import Settings

app = typer.Typer(
    help="The model repository: list, add, pull, quantize, alias, remove, verify.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="The model's name.")]


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List all models and their versions."""
    repository = _repository(settings_for(data))
    found = repository.scan()
    manifests = [manifest_of(version) for version in found]
    if as_json:
        fields = [_fields(repository, f, m) for f, m in zip(found, manifests, strict=True)]
        print(json.dumps(fields, indent=1))
        return
    table = Table(
        "name", "version", "aliases", "precision", "categories", "input", "licence", "digest"
    )
    for manifest in manifests:
        size = f"{manifest.input.width_px} x {manifest.input.height_px}"
        digest = manifest.digest[:19]
        table.add_row(
            manifest.name,
            str(manifest.version),
            ", ".join(repository.aliases_of(manifest.name, manifest.version)),
            manifest.precision,
            str(len(manifest.categories)),
            size,
            manifest.licence,
            digest,
        )
    out().print(table)


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


def _fields(repository: Repository, found: Found, manifest: Manifest) -> dict[str, object]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "aliases": repository.aliases_of(manifest.name, manifest.version),
        "digest": manifest.digest,
        "format": manifest.format,
        "precision": manifest.precision,
        "categories": len(manifest.categories),
        "licence": manifest.licence,
        "origin": manifest.origin,
        "path": str(found.folder),
    }
