"""models add and models pull: a new version of a model."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from image_categorizer_server.cli.options import Data, note
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.models.repository import Repository, manifest_of
from image_categorizer_server.inference.packaging.huggingface import (
    Labels,
    check_files,
    check_name,
    copy_model,
)
from image_categorizer_server.inference.packaging.onnx_description import Preprocessing, onnx_file
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.settings import Settings

Size = Annotated[
    int | None, typer.Option(min=1, max=4096, help="ONNX: width and height, in pixels.")
]
Resize = Annotated[
    Literal["shortest_edge", "exact"] | None,
    typer.Option(help="ONNX: the middle at 8/7 of the size, or the whole picture squeezed."),
]
Mean = Annotated[
    tuple[float, float, float] | None,
    typer.Option(help="ONNX: red, green, blue; ImageNet's are 0.485 0.456 0.406."),
]
Std = Annotated[
    tuple[float, float, float] | None,
    typer.Option(help="ONNX: red, green, blue; ImageNet's are 0.229 0.224 0.225."),
]
Activation = Annotated[
    Literal["softmax", "sigmoid"] | None,
    typer.Option(help="ONNX: what makes its outputs confidences; softmax by default."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to those of the model repository."""
    app.command()(add)
    app.command()(pull)


def add(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    path: Annotated[
        Path,
        typer.Argument(
            help="A Hugging Face folder: config.json, model.safetensors, preprocessor_config.json. "
            "Or an ONNX file, or a folder with model.onnx; beside it labels.txt or labels.json."
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
    size: Size = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    activation: Activation = None,
    data: Data = None,
) -> None:
    """Add a model of your own as a new version; a running server takes it up within seconds.

    A Hugging Face model is exported to ONNX and compared with torch before it appears.

    An ONNX file takes a batch of pictures and answers a number for each label.
    preprocessor_config.json beside it, or the options marked ONNX, say how pictures
    become its input; where neither does, as for networks of ImageNet.
    """
    said = Preprocessing(size, resize, mean, std, activation)
    _add(name, path, (licence, origin, taxonomy), said, settings_for(data))


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
    from image_categorizer_server.inference.packaging.hub import downloaded, local_name

    settings = settings_for(data)
    with note().status(f"Downloading {name}"), downloaded(name) as (folder, origin):
        _add(local_name(name), folder, ("", origin, None), Preprocessing(), settings)


def _add(
    name: str,
    path: Path,
    described: tuple[str, str, Path | None],
    said: Preprocessing,
    settings: Settings,
) -> None:
    console = note()
    with console.status(f"Reading {path}"):
        check_name(name)
        repository = Repository(settings.model_path)
        with repository.incoming() as incoming:
            labels = Labels(name, repository.latest(name) + 1, *described)
            manifest = _copy(path, incoming, labels, said, settings)
            repository.publish(incoming, manifest)
    console.print(f"Added {name}, version {manifest.version}, {manifest.digest[:19]}", markup=False)


def _copy(
    path: Path, incoming: Path, labels: Labels, said: Preprocessing, settings: Settings
) -> Manifest:
    """Fills `incoming` with a version; returns its manifest."""
    if file := onnx_file(path):
        from image_categorizer_server.inference.packaging.onnx import copy_onnx

        manifest, told = copy_onnx(file, incoming, labels, said)
    elif said != Preprocessing():
        raise OperatorError("--size, --resize, --mean, --std and --activation are for ONNX files.")
    else:
        check_files(path)
        manifest = copy_model(path, incoming, labels)
        told = ""
    _refuse_twice(Repository(settings.model_path), manifest)
    size = f"{manifest.input.width_px} x {manifest.input.height_px}"
    note().print(f"{len(manifest.categories)} categories, input {size}")
    told = told or asyncio.run(_export(incoming, manifest, settings))
    note().print(told, markup=False, soft_wrap=True)
    return manifest


async def _export(folder: Path, manifest: Manifest, settings: Settings) -> str:
    from image_categorizer_server.inference.packaging.export import ensure_export

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
