"""create-admin, keys: API keys."""

import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server import clock
from image_categorizer_server.cli.connection import Data, with_database
from image_categorizer_server.cli.output import AsJson, add_row, out, say
from image_categorizer_server.domain.access import DEFAULT_TENANT, ApiKey, Role
from image_categorizer_server.services import key as keys

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


Tenant = Annotated[str, typer.Option(help="Tenant that the keys belong to.")]


class RoleName(StrEnum):
    """Roles. From viewer to platform, each includes the permissions of the one before."""

    WORKER = "worker"
    VIEWER = "viewer"
    CLASSIFIER = "classifier"
    OPERATOR = "operator"
    ADMIN = "admin"
    PLATFORM = "platform"


def create_admin(
    data: Data = None,
    as_json: AsJson = False,
    name: Annotated[str, typer.Option(help="Name of the key.")] = "admin",
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Create an API key with the role admin. The key is shown only once."""
    created = with_database(data, keys.create_key(name, Role.ADMIN, tenant_id=tenant))
    print_new_key(created, as_json)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key, such as who uses it.")],
    role: Annotated[RoleName, typer.Option(help="Role of the key.")] = RoleName.CLASSIFIER,
    expires_in_days: Annotated[
        int | None,
        typer.Option(min=1, max=3650, help="Days until the key expires. Never by default."),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key. The key is shown only once."""
    end = clock.now() + timedelta(days=expires_in_days) if expires_in_days else None
    created = with_database(data, keys.create_key(name, Role[role.name], end, tenant))
    print_new_key(created, as_json)


@app.command("list")
def list_(tenant: Tenant = DEFAULT_TENANT, data: Data = None, as_json: AsJson = False) -> None:
    """List the API keys of a tenant, without their secrets."""
    found = with_database(data, keys.list_keys(tenant))
    if as_json:
        print(json.dumps([_fields(key) for key in found], indent=1))
        return
    table = Table("id", "name", "role", "starts with", "created", "state")
    for key in found:
        add_row(
            table,
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
    key_id: Annotated[str, typer.Argument(help="ID of the key, as shown by `keys list`.")],
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Revoke an API key. Servers refuse it within seconds."""
    with_database(data, keys.revoke_key(key_id, tenant))
    say("The key is revoked. Servers refuse it within seconds.")


def print_new_key(created: keys.NewKey, as_json: bool) -> None:
    """Prints a new key, with its secret."""
    if as_json:
        print(json.dumps({"key": created.secret, **_fields(created.key)}))
        return
    say("API key, shown only this once:")
    print(created.secret)


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
