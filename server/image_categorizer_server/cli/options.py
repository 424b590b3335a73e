"""Options that several commands share, and the way from them to settings."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from image_categorizer_server.local.installation import DEFAULT_DATA

PIPE_COLUMNS = 1000

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help=f"Folder of an embedded installation. [default: {DEFAULT_DATA}]",
        show_default=False,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")
]


def out() -> Console:
    """Returns where tables go; in a pipe they are as wide as they need to be."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)


def note() -> Console:
    """Returns where everything goes that is not the result."""
    return Console(stderr=True, highlight=False)
