"""certificates: what gateway, workers and server show each other."""

from pathlib import Path
from typing import Annotated

import typer

from image_categorizer_server.cli.output import say
from image_categorizer_server.local.certificates import create_internal
from image_categorizer_server.settings import load_settings

app = typer.Typer(
    help="Create certificates for TLS between gateway, workers and server.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Keeps `create` a command of its own: typer would run it as `certificates`."""


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
) -> None:
    """Create an authority and its certificates for the server, the gateway and the workers.

    Certificates are valid for 397 days. To renew them, run it again: the authority stays.  Servers
    and the gateway use new files at once, workers once they are restarted.
    """
    create_internal(folder, load_settings().internal_tls)
    say(
        f"Set CATEGORIZER_INTERNAL_TLS__PATH={folder.absolute()} for server, gateway and workers. "
        "Each needs ca.pem and its own two files; keep ca-key.pem elsewhere."
    )
