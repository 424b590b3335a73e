"""categories: categories of one's own, which are taught by examples."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from image_categorizer import CategoryHead, OwnCategory
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out, say

app = typer.Typer(
    help="Teach categories of your own by examples, list and delete them.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Name of the category.")]
Examples = Annotated[
    list[Path], typer.Argument(help="Images that show it.", exists=True, dir_okay=False)
]


KINDS = {
    "MEANS": "The mean of each category's examples decides",
    "LINEAR": "A logistic regression decides",
}


@app.command()
def create(
    category: Name,
    examples: Examples,
    subject: Annotated[str, typer.Option(help="Whose images.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create a category from examples, at most 100. Similar images are answered with it at once."""
    with client_of(data) as client:
        _print(client.categories.create(category, examples, subject_id=subject), as_json)


@app.command()
def add(
    category: Name,
    examples: Examples,
    subject: Annotated[str, typer.Option(help="Whose images.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add examples to a category, at most 100 at a time."""
    with client_of(data) as client:
        _print(client.categories.add_examples(category, examples, subject_id=subject), as_json)


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List the categories, and say what decides between them."""
    with client_of(data) as client:
        found, head = list(client.categories.list()), client.categories.head()
    if as_json:
        print(json.dumps([_fields(category) for category in found], indent=1))
        return
    table = Table("category", "examples", box=None)
    for category in found:
        add_row(table, category.category, str(category.example_count))
    out().print(table)
    say(_decides(head))


@app.command()
def delete(category: Name, data: Data = None) -> None:
    """Delete a category. Its images remain."""
    with client_of(data) as client:
        client.categories.delete(category)
    say("The category is deleted.")


def _print(category: OwnCategory, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(category), indent=1))
    else:
        say(f"{category.category} has {category.example_count} examples.")


def _fields(category: OwnCategory) -> dict[str, object]:
    return {**asdict(category), "create_time": category.create_time.isoformat()}


def _decides(head: CategoryHead) -> str:
    decides = KINDS.get(head.kind, "Nothing decides yet")
    if head.trial is None:
        return f"{decides}."
    trial = head.trial
    return (
        f"{decides}. The last regression has {trial.right_count} of {trial.total_count} held-out "
        f"examples right, what decided before it {trial.baseline_right_count}."
    )
