"""reviews: stored images that nobody has judged; judged, put aside; how far reviewers agree."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

import typer
from image_categorizer import ReviewFilters, ReviewItem
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out, say

app = typer.Typer(help="Judge what models found in stored images.", no_args_is_help=True)
ImageId = Annotated[str, typer.Argument(help="ID of the image, as printed by `reviews list`.")]


@app.command("list")
def list_(
    order: Annotated[
        Literal["UNCERTAINTY", "DISAGREEMENT"],
        typer.Option(case_sensitive=False, help="Which images are first."),
    ] = "UNCERTAINTY",
    category: Annotated[str, typer.Option(help="Category, or a broader one.")] = "",
    model: Annotated[str, typer.Option(help="Model of the newest result.")] = "",
    since: Annotated[datetime | None, typer.Option(help="Stored then or later.")] = None,
    before: Annotated[datetime | None, typer.Option(help="Stored before.")] = None,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="Those that were put aside, instead.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of images.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the images that nobody has judged, those first that a judgement helps most.

    Times without a zone are those of this machine.
    """
    filters = ReviewFilters(category=category, model=model, skipped=skipped)
    if since:
        filters["start_time"] = since.astimezone()
    if before:
        filters["end_time"] = before.astimezone()
    table = Table("image", "file", "category", "uncertainty", "disagreement", box=None)
    with client_of(data) as client:
        for _, item in zip(range(most), client.reviews.list(order, **filters), strict=False):
            if as_json:
                print(json.dumps(_fields(item)))
            else:
                share = "-" if item.disagreement is None else f"{item.disagreement:.2f}"
                image, category = item.image, str(_fields(item)["category"] or "-")
                shown = f"{item.uncertainty:.2f}"
                add_row(table, image.image_id, image.filename, category, shown, share)
    if not as_json:
        out().print(table)


@app.command()
def judge(
    image_id: ImageId,
    category: Annotated[
        str, typer.Argument(help="What the image shows. [default: the first prediction is right]")
    ] = "",
    not_in_list: Annotated[
        bool, typer.Option("--not-in-list", help="It shows no category of the model.")
    ] = False,
    look_alikes: Annotated[
        int | None,
        typer.Option(
            min=0, max=10, help="Judge those the same whose hashes differ by so many bits at most."
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say what an image shows. The next answers for similar images follow."""
    if not_in_list and category:
        raise typer.BadParameter("give either a category or --not-in-list")
    with client_of(data) as client:
        if category:
            said = client.images.correct(image_id, category, look_alike_bits=look_alikes)
        elif not_in_list:
            said = client.feedback.reject(image_id, look_alike_bits=look_alikes)
        else:
            said = client.feedback.confirm(image_id, look_alike_bits=look_alikes)
    if as_json:
        others = list(said.look_alike_image_ids)
        fields = {"feedback_id": said.feedback_id, "category": said.category}
        print(json.dumps({**fields, "look_alike_image_ids": others}))
    else:
        count = len(said.look_alike_image_ids)
        also = f" {count} look-alikes were judged the same." if look_alikes is not None else ""
        say(f"{image_id} shows {said.category}.{also}")


@app.command()
def skip(image_id: ImageId, data: Data = None) -> None:
    """Put an image aside, for all reviewers."""
    with client_of(data) as client:
        client.reviews.skip(image_id)
    say(f"{image_id} is put aside.")


@app.command()
def agreement(
    model: Annotated[str, typer.Option(help="Only results of this model.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show how far reviewers agree about the results that two or more have judged."""
    with client_of(data) as client:
        found = client.reviews.agreement(model=model)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    say(f"{found.reviewer_count} reviewers have judged {found.result_count} results in common.")
    table = Table("reviewers", "results", "agreement", "kappa", box=None)
    whole = str(found.result_count), found.observed_agreement, found.fleiss_kappa
    add_row(table, "all", whole[0], _number(whole[1]), _number(whole[2]))
    for pair in found.pairs:
        names = f"{pair.reviewer}, {pair.other_reviewer}"
        figures = _number(pair.observed_agreement), _number(pair.cohen_kappa)
        add_row(table, names, str(pair.result_count), *figures)
    out().print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _fields(item: ReviewItem) -> dict[str, object]:
    image, result = item.image, item.image.result
    return {
        "image_id": image.image_id,
        "filename": image.filename,
        "category": result.category if result else None,
        "confidence": result.confidence if result else None,
        "uncertainty": item.uncertainty,
        "disagreement": item.disagreement,
        "skip_time": item.skip_time.isoformat() if item.skip_time else None,
    }
