"""create-admin, keys: API keys."""

import asyncio
import json
from collections.abc import Coroutine
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from image_categorizer_server import clock
from image_categorizer_server.cli.options import AsJson, Data, note, out
from image_categorizer_server.db.database import open_database
from image_categorizer_server.domain.access import ApiKey, Role
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.services import key as admin

Result = TypeVar("Result")
app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)


class RoleName(StrEnum):
    """The roles, each of which but `worker` may do all that the ones before it may."""

    WORKER = "worker"
    VIEWER = "viewer"
    CLASSIFIER = "classifier"
    OPERATOR = "operator"
    ADMIN = "admin"


def register(root: typer.Typer) -> None:
    """Adds the commands that stand at the root."""
    root.command("create-admin")(create_admin)


def with_database(data: Path | None, work: Coroutine[None, None, Result]) -> Result:
    """Runs `work` with the database of the installation that the command means."""
    settings = settings_for(data)

    async def run() -> Result:
        async with open_database(settings.database_url, settings.database):
            return await work

    try:
        return asyncio.run(run())
    finally:
        work.close()


def create_admin(
    data: Data = None,
    as_json: AsJson = False,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "admin",
) -> None:
    """Make an API key of the role admin; it is shown only now."""
    _print_new(with_database(data, admin.create_key(name, Role.ADMIN)), as_json)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[RoleName, typer.Option(help="What it may do.")] = RoleName.CLASSIFIER,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="When it ends; never by default.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key; it is shown only now."""
    end = clock.now() + timedelta(days=expires_in_days) if expires_in_days else None
    _print_new(with_database(data, admin.create_key(name, Role[role.name], end)), as_json)


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List the API keys, without their secrets."""
    keys = with_database(data, admin.list_keys())
    if as_json:
        print(json.dumps([_fields(key) for key in keys], indent=1))
        return
    table = Table("id", "name", "role", "starts with", "made", "state")
    for key in keys:
        table.add_row(
            key.key_id,
            key.name,
            key.role.name.lower(),
            key.prefix,
            f"{key.create_time:%Y-%m-%d}",
            _state(key),
        )
    out().print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id that `keys list` shows.")], data: Data = None
) -> None:
    """End an API key; servers refuse it within seconds."""
    with_database(data, admin.revoke_key(key_id))
    note().print("The key is revoked; servers refuse it within seconds.")


def _print_new(made: admin.NewKey, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"key": made.secret, **_fields(made.key)}))
        return
    note().print("The key, shown only this once:")
    print(made.secret)


def _fields(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.key_id,
        "name": key.name,
        "role": key.role.name.lower(),
        "prefix": key.prefix,
        "create_time": key.create_time.isoformat(),
        "expire_time": key.expire_time and key.expire_time.isoformat(),
        "state": _state(key),
    }


def _state(key: ApiKey) -> str:
    if key.revoke_time:
        return "revoked"
    return "expired" if key.expire_time and key.expire_time <= clock.now() else "in force"
