"""The command `image-categorizer`, one file per subject."""

import sys

import typer
from rich.console import Console

from image_categorizer_server.cli import batch, bench, classify, key, model, run, webhook
from image_categorizer_server.errors import CategorizerError, OperatorError
from image_categorizer_server.version import VERSION

app = typer.Typer(
    help="Classify photographs. Start with `image-categorizer up`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (run.up, run.serve, run.migrate, run.worker, run.drained, run.failpoints):
    app.command()(command)
app.command("create-admin")(key.create_admin)
app.command()(classify.classify)
app.command()(bench.bench)
app.add_typer(model.app, name="models")
app.add_typer(batch.app, name="batch")
app.add_typer(webhook.app, name="webhooks")
app.add_typer(key.app, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    _version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version
    ),
) -> None:
    pass


def main() -> None:
    """Runs the command. Exit code 1 means that it failed, 2 that it was called incorrectly."""
    try:
        app()
    except (OperatorError, CategorizerError) as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
