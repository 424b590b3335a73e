"""How to classify: the options that `classify` and `batch submit` share."""

from typing import Annotated

import typer
from image_categorizer import Options

Images = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders and zip files of images, addresses of images (https://, s3://, "
        "gs://, az://), or - for standard input.",
        metavar="FILE|DIR|ZIP|URL|-",
    ),
]
Model = Annotated[str, typer.Option(help="Model to use. The server's default model if not set.")]
Version = Annotated[
    str,
    typer.Option("--version", help="Version of the model: a number, or an alias such as stable."),
]
TopK = Annotated[int, typer.Option(min=1, help="Maximum number of predictions per image.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Minimum confidence of a prediction.")]
Include = Annotated[
    list[str] | None,
    typer.Option(
        help="Predict only this category, or those below it. Repeat the option for several."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Do not predict this category, nor those below it. Repeat the option for several."
    ),
]
Blur = Annotated[
    list[str] | None,
    typer.Option(
        help="Rectangle that is stored blurred: left,top,right,bottom in pixels of the upright "
        "image, or percent: and the same in hundredths. Repeat the option for several.",
        metavar="RECTANGLE",
    ),
]
BoundingBoxes = Annotated[
    bool, typer.Option("--bounding-boxes", help="Show where the image has each category.")
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Run the model even if the answer is known.")
]
RollUp = Annotated[
    bool | None,
    typer.Option(
        "--roll-up/--no-roll-up",
        help="Answer with the deepest category that reaches the threshold, by default 0.8: cat "
        "rather than tabby. The model's own setting if not set.",
    ),
]
RawConfidence = Annotated[
    bool,
    typer.Option(
        "--raw-confidence",
        help="Show the confidence before calibration, too. It differs if `models calibrate` made "
        "the version.",
    ),
]


def options_of(
    model: str,
    version: str,
    top_k: int,
    threshold: float,
    include: list[str] | None,
    exclude: list[str] | None,
    bounding_boxes: bool,
    no_cache: bool,
    roll_up: bool | None,
    raw_confidence: bool,
) -> Options:
    """Returns the options as the SDK takes them."""
    options = Options(
        model=model,
        version=version,
        top_k=top_k,
        confidence_threshold=threshold,
        include_categories=include or [],
        exclude_categories=exclude or [],
        bounding_boxes=bounding_boxes,
        no_cache=no_cache,
        raw_confidence=raw_confidence,
    )
    if roll_up is not None:
        options["roll_up"] = roll_up
    return options
