"""legal-holds: what must not be removed."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from image_categorizer import LegalHold
from rich.table import Table

from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out, say
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError

app = typer.Typer(help="Keep data from being removed.", no_args_is_help=True)


@app.command()
def create(
    image: Annotated[str, typer.Option(help="ID of a stored image.")] = "",
    subject: Annotated[
        str, typer.Option(help="A subject_id; or `key:` and the key of a subject.")
    ] = "",
    whole_tenant: Annotated[
        bool, typer.Option("--whole-tenant", help="All of the tenant.")
    ] = False,
    reference: Annotated[
        str, typer.Option(help="For your records, such as the number of a case.")
    ] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Keep an image, a subject or the whole tenant from being removed."""
    if sum(map(bool, (image, subject, whole_tenant))) != 1:
        raise OperatorError("Give one of --image, --subject and --whole-tenant.")
    with client_of(data, Role.ADMIN) as client:
        hold = client.legal_holds.create(
            image_id=image, subject_id=subject, whole_tenant=whole_tenant, reference=reference
        )
    print(json.dumps(_fields(hold)) if as_json else hold.hold_id)


@app.command()
def release(
    hold_id: Annotated[str, typer.Argument(help="ID of the hold.")], data: Data = None
) -> None:
    """End a hold."""
    with client_of(data, Role.ADMIN) as client:
        client.legal_holds.release(hold_id)
    say("The hold has ended.")


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List the holds, newest first, also those that have ended."""
    table = Table("hold", "target", "reference", "since", "until", box=None)
    with client_of(data, Role.ADMIN) as client:
        for hold in client.legal_holds.list():
            if as_json:
                print(json.dumps(_fields(hold)))
                continue
            times = [
                f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"
                for moment in (hold.create_time, hold.end_time)
            ]
            target = hold.image_id or hold.subject_key or "the whole tenant"
            add_row(table, hold.hold_id, target, hold.reference, *times)
    if not as_json:
        out().print(table)


def _fields(hold: LegalHold) -> dict[str, object]:
    return {
        **asdict(hold),
        "create_time": hold.create_time.isoformat(),
        "end_time": hold.end_time.isoformat() if hold.end_time else None,
    }
