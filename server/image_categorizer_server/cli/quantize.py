"""models quantize: an int8 version of a model, for CPUs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from image_categorizer_server.cli.options import Data, note
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.local.installation import settings_for

Evaluate = Annotated[
    Path | None,
    typer.Option(
        help="Labelled pictures to compare the accuracy on: a folder with a folder for each "
        'category, or JSON {"images": [{"file", "category" or "category_id"}]}.  Without, '
        "the answers on the calibration pictures are compared with those of fp32."
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        help="Most loss of accuracy, in percent of the pictures. "
        "[default: CATEGORIZER_MODELS__QUANTIZE_MAX_LOSS_POINTS, 0.5]",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command to those of the model repository."""
    app.command()(quantize)


def quantize(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    calibrate: Annotated[
        Path,
        typer.Option(help="Folder of pictures of the kind that will be classified; no labels."),
    ],
    evaluate: Evaluate = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Version to start from; the newest fp32 by default.")
    ] = None,
    max_loss: MaxLoss = None,
    data: Data = None,
) -> None:
    """Make a new version that computes with 8-bit integers: faster on a CPU, about as accurate.

    Past the loss allowed no version appears, and the command exits with 1.
    """
    settings = settings_for(data)
    models, repository = settings.models, Repository(settings.model_path)
    console = note()
    with Progress(console=console, transient=True) as progress:
        from image_categorizer_server.backend import image_limits
        from image_categorizer_server.inference.images.decode import Decoder
        from image_categorizer_server.inference.packaging.quantizer import (
            Quantizer,
            version_to_quantize,
        )

        made = Quantizer(
            repository,
            Decoder(image_limits(settings)),
            models,
            models.quantize_max_loss_points if max_loss is None else max_loss,
            on_step=steps(progress),
            say=lambda sentence: console.print(sentence, markup=False, soft_wrap=True),
        ).quantize(version_to_quantize(repository.scan(), name, version), calibrate, evaluate)
    console.print(f"Added {name}, version {made.version}, int8, {made.digest[:19]}", markup=False)


def steps(progress: Progress) -> Callable[[str, int, int], None]:
    """Returns what shows each step as a line of its own."""
    tasks: dict[str, TaskID] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = progress.add_task(step)
        progress.update(tasks[step], completed=done, total=total)

    return show
