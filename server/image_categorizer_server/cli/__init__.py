"""The command `image-categorizer`, one file per subject."""

import os
import sys
import traceback

import typer

from image_categorizer_server.cli.commands import Commands
from image_categorizer_server.cli.output import printable, say
from image_categorizer_server.errors import CategorizerError, OperatorError
from image_categorizer_server.version import VERSION

app = typer.Typer(
    cls=Commands,
    help="Classify photographs. Start with `image-categorizer up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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
    status = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough
        _discard_output()
        status = status or 1
    except OSError as error:
        _discard_output()
        say(f"Cannot write the output: {error.strerror}.")
        status = 1
    sys.exit(status)


def _run() -> int:
    """Returns the exit code of the command."""
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else bool(ended.code)
    except (OperatorError, CategorizerError) as error:
        say(str(error))
    except OSError as error:
        where = f": {printable(os.fsdecode(error.filename))}" if error.filename else ""
        say(f"Cannot go on: {error.strerror or error}{where}.")
    except Exception:  # noqa: BLE001 - nobody is above: the traceback is printed
        traceback.print_exc()
        say(
            f"This is a bug in image-categorizer {VERSION}. Please report it with the lines above "
            "and the command."
        )
    return 1


def _discard_output() -> None:
    """Keeps the interpreter from writing, and failing to write, what is left at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
