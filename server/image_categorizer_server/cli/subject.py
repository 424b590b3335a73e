"""subjects: the people whose images are stored; erased, allowed again, exported."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from image_categorizer import Erasure, ImageCategorizationClient
from rich.table import Table

from image_categorizer_server.cli.audit import public_key_of
from image_categorizer_server.cli.connection import Data, client_of
from image_categorizer_server.cli.output import AsJson, add_row, out, say
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.services.erasure import verify_certificate

app = typer.Typer(help="Erase and export what is stored about people.", no_args_is_help=True)
SubjectId = Annotated[
    str, typer.Argument(help="The subject_id of the images; or `key:` and the key of the subject.")
]
POLL_S = 0.5


@app.command()
def erase(
    subject_id: SubjectId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait_s: Annotated[
        float, typer.Option(min=0, help="How long to wait for the end, in seconds.")
    ] = 120.0,
    certificate: Annotated[
        Path | None, typer.Option(help="File to write the certificate to.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Remove all that is stored about a subject. It cannot be undone.

    The exit code is 1 if it takes longer than the wait; the server goes on.
    """
    if not yes:
        typer.confirm("Remove all that is stored about the subject?", abort=True)
    with client_of(data, Role.ADMIN) as client:
        erasure = _waited(client, client.subjects.erase(subject_id), wait_s)
    if as_json:
        print(json.dumps(_fields(erasure), indent=1))
    if not erasure.is_done:
        raise OperatorError(f"The erasure {erasure.erasure_id} is not done yet.")
    if certificate is not None:
        certificate.write_text(erasure.certificate)
    if not as_json:
        removed = ", ".join(f"{count} {name}" for name, count in erasure.removed.items() if count)
        say(f"The subject is erased: {removed or 'nothing was stored'}.")


@app.command()
def allow(subject_id: SubjectId, data: Data = None) -> None:
    """Let an erased subject be stored again."""
    with client_of(data, Role.ADMIN) as client:
        client.subjects.allow(subject_id)
    say("The subject may be stored again.")


@app.command()
def export(
    subject_id: SubjectId,
    file: Annotated[Path, typer.Argument(help="Zip file to write.")],
    data: Data = None,
) -> None:
    """Write all that is stored about a subject to a zip file."""
    with client_of(data, Role.ADMIN) as client, file.open("wb") as opened:
        for piece in client.subjects.export(subject_id):
            opened.write(piece)
    say(f"What is stored about the subject is in {file}.")


@app.command()
def erasures(data: Data = None, as_json: AsJson = False) -> None:
    """List the erasures, newest first."""
    table = Table("erasure", "subject key", "state", "requested", "allowed", box=None)
    with client_of(data, Role.ADMIN) as client:
        for erasure in client.subjects.erasures():
            if as_json:
                print(json.dumps(_fields(erasure)))
                continue
            times = [
                f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"
                for moment in (erasure.create_time, erasure.allow_time)
            ]
            add_row(table, erasure.erasure_id, erasure.subject_key, erasure.state, *times)
    if not as_json:
        out().print(table)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="File with the certificate of an erasure.")],
    public_key: Annotated[
        Path | None, typer.Option(help="File with the public key. [default: the server's]")
    ] = None,
    data: Data = None,
) -> None:
    """Verify that the server has signed the certificate of an erasure, and print what it states."""
    key = public_key_of(public_key, settings_for(data))
    if key is None:
        raise OperatorError("There is no key: give --public-key.")
    try:
        statement = verify_certificate(file.read_text(), key)
    except ValueError as error:
        raise OperatorError(f"{file}: {error}.") from None
    print(json.dumps(statement, indent=1))


def _waited(client: ImageCategorizationClient, erasure: Erasure, wait_s: float) -> Erasure:
    until_s = time.monotonic() + wait_s
    while not erasure.is_done and time.monotonic() < until_s:
        time.sleep(POLL_S)
        erasure = client.subjects.erasure(erasure.erasure_id)
    return erasure


def _fields(erasure: Erasure) -> dict[str, object]:
    times = {
        name: moment.isoformat() if isinstance(moment, type(erasure.create_time)) else None
        for name, moment in asdict(erasure).items()
        if name.endswith("_time")
    }
    return {**asdict(erasure), **times}
