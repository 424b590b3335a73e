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
    typer.Option(help="Predict only this category. Repeat the option for several."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Do not predict this category. Repeat the option for several."),
]
BoundingBoxes = Annotated[
    bool, typer.Option("--bounding-boxes", help="Show where the image has each category.")
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Run the model even if the answer is known.")
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
) -> Options:
    """Returns the options as the SDK takes them."""
    return Options(
        model=model,
        version=version,
        top_k=top_k,
        confidence_threshold=threshold,
        include_categories=include or [],
        exclude_categories=exclude or [],
        bounding_boxes=bounding_boxes,
        no_cache=no_cache,
    )
