"""encryption: the keys that encrypt stored images."""

import asyncio
from typing import Annotated

import typer

from image_categorizer_server.access.key_encryption import new_key
from image_categorizer_server.cli.connection import Data, with_database
from image_categorizer_server.cli.output import say
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.services import data_key as data_keys

app = typer.Typer(help="Manage the keys that encrypt stored images.", no_args_is_help=True)


@app.command("new-key")
def new() -> None:
    """Print a new key, for the file CATEGORIZER_ENCRYPTION__KEYS_PATH."""
    print(new_key())


@app.command()
def check(data: Data = None) -> None:
    """Encrypt and decrypt something by each key, also those of key-management services."""
    found = asyncio.run(data_keys.check(settings_for(data).encryption))
    for name, problem in found:
        print(f"{name}  {problem or 'works'}")
    if any(problem for _, problem in found):
        raise typer.Exit(1)


@app.command()
def rotate(data: Data = None) -> None:
    """Encrypt all data keys by the first key of the file. Images stay as they are.

    Put the new key into the first line, restart server and workers, run this, and remove the old
    key. Safe to repeat.
    """
    count = with_database(data, data_keys.rewrap(settings_for(data).encryption))
    say(f"{count} data keys are encrypted by the first key now; no other key is needed.")


@app.command()
def erase(
    tenant: Annotated[str, typer.Argument(help="The tenant.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Delete the data keys of a tenant: its stored images are lost, in every backup too.

    Processes that have used a key use it no more within a minute. The images of batches that still
    run fail. What the tenant stores afterwards gets a new key.
    """
    if not yes:
        typer.confirm(f"Lose all stored images of the tenant {tenant}?", abort=True)
    count = with_database(data, data_keys.erase(tenant))
    say(f"Erased {count} data keys.")
