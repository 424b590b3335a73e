"""The command `image-categorizer`: assembles the subcommands, one file each."""

import sys

import typer
from rich.console import Console

from image_categorizer_server.cli import add, aliases, batch, bench, classify, quantize, worker
from image_categorizer_server.cli import key as keys
from image_categorizer_server.cli import model as models
from image_categorizer_server.cli import run as services
from image_categorizer_server.cli import webhook as webhooks
from image_categorizer_server.errors import CategorizerError, OperatorError
from image_categorizer_server.version import VERSION

app = typer.Typer(
    help="Sorts photographs into categories. Start with `image-categorizer up`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
services.register(app)
worker.register(app)
keys.register(app)
classify.register(app)
bench.register(app)
add.register(models.app)
aliases.register(models.app)
quantize.register(models.app)
app.add_typer(models.app, name="models")
app.add_typer(batch.app, name="batch")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(keys.app, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    _version: bool = typer.Option(
        False, "--version", help="Print the release and exit.", callback=_print_version
    ),
) -> None:
    pass


def main() -> None:
    """Runs the command; exits with 1 when the work failed, 2 when the call was wrong."""
    try:
        app()
    except (OperatorError, CategorizerError) as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
