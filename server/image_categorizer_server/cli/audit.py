"""audit: events listed and exported; the chains verified; keys that sign statements."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from image_categorizer import AuditEvent, AuditFilter
from rich.table import Table

from image_categorizer_server.access.signing import PublicKey, SigningKey
from image_categorizer_server.cli.connection import Data, client_of, with_database
from image_categorizer_server.cli.output import AsJson, add_row, out, progress_of_steps, say
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.services.audit_statement import signing_key_of
from image_categorizer_server.services.audit_verification import (
    Progress,
    Report,
    verify_audit,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.object_store import open_storage

app = typer.Typer(help="Read and verify the audit: who did what.", no_args_is_help=True)
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Since = Annotated[
    datetime | None, typer.Option(formats=TIMES, help="Show only events from this time on, in UTC.")
]
Until = Annotated[
    datetime | None, typer.Option(formats=TIMES, help="Show only events before this time, in UTC.")
]
ByActor = Annotated[str, typer.Option("--actor", help="Show only events of this actor.")]
Action = Annotated[
    str, typer.Option(help="Show only events with this action. `batch.`: all that begin so.")
]
Resource = Annotated[str, typer.Option(help="Show only events about this resource.")]
OutcomeOption = Annotated[
    Literal["OK", "DENIED"] | None, typer.Option(help="Show only events with this outcome.")
]
Address = Annotated[str, typer.Option(help="Show only events of this IP address.")]
OfPlatform = Annotated[
    bool, typer.Option("--platform", help="Read the chain of the platform. Needs its role.")
]


@app.command("list")
def list_(
    since: Since = None,
    until: Until = None,
    actor: ByActor = "",
    action: Action = "",
    resource: Resource = "",
    outcome: OutcomeOption = None,
    address: Address = "",
    platform: OfPlatform = False,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of events.")] = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List events, newest first."""
    wanted: AuditFilter = {
        "start_time": _utc(since),
        "end_time": _utc(until),
        "actor_id": actor,
        "action": action,
        "resource": resource,
        "outcome": outcome,
        "address": address,
        "platform": platform,
    }
    table = Table("seq", "time", "actor", "action", "resource", "outcome", "address", box=None)
    with client_of(data, Role.ADMIN) as client:
        for _, event in zip(range(most), client.audit.list(**wanted), strict=False):
            if as_json:
                print(json.dumps({**asdict(event), "time": event.time.isoformat()}))
            else:
                add_row(table, *_row(event))
    if not as_json:
        out().print(table)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    file_format: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="Format of the file.")
    ] = "jsonl",
    since: Since = None,
    until: Until = None,
    actor: ByActor = "",
    action: Action = "",
    outcome: OutcomeOption = None,
    platform: OfPlatform = False,
    data: Data = None,
) -> None:
    """Write events to a file, oldest first, with all fields. That is an event, too."""
    wanted: AuditFilter = {
        "start_time": _utc(since),
        "end_time": _utc(until),
        "actor_id": actor,
        "action": action,
        "outcome": outcome,
        "platform": platform,
    }
    with client_of(data, Role.ADMIN) as client, file.open("wb") as opened:
        for piece in client.audit.export(file_format, **wanted):
            opened.write(piece)
    say(f"The events are in {file}.")


@app.command()
def verify(
    tenant: Annotated[
        str, typer.Option(help="Verify only this tenant's chain; `_platform` for the platform's.")
    ] = "",
    first: Annotated[int, typer.Option("--from", min=1, help="Event to begin with.")] = 1,
    public_key: Annotated[
        Path | None,
        typer.Option(help="File with the public key of the statements. [default: the server's]"),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Verify that no event was changed, removed, added or moved.

    Reads the database and the object store. The exit code is 1 if anything is found.
    """
    settings = settings_for(data)
    key = public_key_of(public_key, settings)
    with progress_of_steps() as show:
        report = with_database(data, _verified(settings, key, tenant, first, show))
    if as_json:
        print(json.dumps(asdict(report), indent=1))
    else:
        for finding in report.findings:
            say(str(finding))
        _sum_up(report, key)
    if report.findings:
        raise typer.Exit(1)


@app.command("public-key")
def showpublic_key_of(data: Data = None) -> None:
    """Print the public key of the statements, as PEM. Keep a copy elsewhere."""
    key = public_key_of(None, settings_for(data))
    if key is None:
        raise OperatorError("There is no key: set CATEGORIZER_AUDIT__SIGNING_KEY_FILE.")
    print(key.pem(), end="")


@app.command("new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="File to write, for you alone to read.")],
) -> None:
    """Make a key that signs statements, and print its public key."""
    key = SigningKey.generate()
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise OperatorError(f"{file} exists already.") from None
    with os.fdopen(opened, "w") as stream:
        stream.write(key.pem())
    print(key.public_key.pem(), end="")


async def _verified(
    settings: Settings, key: PublicKey | None, tenant: str, first: int, show: Progress
) -> Report:
    async with open_storage(settings) as storage:
        return await verify_audit(storage, key, tenant, first, show)


def public_key_of(file: Path | None, settings: Settings) -> PublicKey | None:
    """Returns the key in a file; without a file, that of the settings, None if there is none.

    Raises:
        OperatorError: the file holds no such key.
    """
    if file is None:
        key = signing_key_of(settings.audit)
        return key.public_key if key else None
    try:
        return PublicKey.from_pem(file.read_text())
    except ValueError:
        raise OperatorError(f"{file} holds no Ed25519 key.") from None


def _sum_up(report: Report, key: PublicKey | None) -> None:
    verified = (
        f"{report.events} events of {report.chains} chains, and {report.statements} statements"
    )
    if not report.findings:
        say(f"{verified}, are as they were written.")
    if key is None and report.statements:
        say("The signatures were not verified: there is no public key.")


def _row(event: AuditEvent) -> Iterator[str]:
    yield str(event.seq)
    yield f"{event.time:%Y-%m-%d %H:%M:%S}"
    yield event.actor_id or "-"
    yield event.action
    yield event.resource or "-"
    yield event.outcome
    yield event.address or "-"


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
