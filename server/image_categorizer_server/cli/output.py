"""Where commands print: results on standard output, notes on standard error."""

from typing import Annotated

import typer
from rich.console import Console

PIPE_COLUMNS = 1000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only, to standard output.")]


def out() -> Console:
    """Returns the console for results. In a pipe, tables are as wide as they need to be."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)


def note() -> Console:
    """Returns the console for everything that is not a result: standard error."""
    return Console(stderr=True, highlight=False)
