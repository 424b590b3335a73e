"""create-admin, keys: API keys."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server import clock
from image_categorizer_server.cli.connection import Data, with_database
from image_categorizer_server.cli.output import AsJson, add_row, out, say
from image_categorizer_server.domain.access import DEFAULT_TENANT, Role, Scope
from image_categorizer_server.domain.key import (
    ApiKey,
    KeyChanges,
    KeySpec,
    Network,
    NewKey,
    network_of,
)
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.paging import MAX_PAGE_SIZE
from image_categorizer_server.services.key import ApiKeys, operator

app = typer.Typer(
    help="Manage API keys. The commands work on the database, also while no server runs.",
    no_args_is_help=True,
)


class RoleName(StrEnum):
    """Roles. From viewer to platform, each role includes the permissions of the one before."""

    WORKER = "worker"
    VIEWER = "viewer"
    CLASSIFIER = "classifier"
    OPERATOR = "operator"
    ADMIN = "admin"
    PLATFORM = "platform"


KeyId = Annotated[str, typer.Argument(help="ID of the key, as shown by `keys list`.")]
Tenant = Annotated[str, typer.Option(help="Tenant that owns the key.")]
Scopes = Annotated[
    list[Scope] | None,
    typer.Option(
        "--scope", help="Limit the key to this part of the API. Repeat the option for several."
    ),
]
Addresses = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-address",
        help="Accept the key only from this network, such as 192.0.2.0/24, or address. Repeat the "
        "option for several.",
    ),
]
MAX_DAYS = 3650
Days = Annotated[int | None, typer.Option(min=1, max=MAX_DAYS, help="Days until the key expires.")]


def create_admin(
    data: Data = None,
    as_json: AsJson = False,
    name: Annotated[str, typer.Option(help="Name of the key.")] = "admin",
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Create an API key with the role admin. The key is shown only once."""
    spec = KeySpec(name, Role.ADMIN)
    print_new_key(with_database(data, _keys(data).create(operator(tenant), spec)), as_json)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key, such as who uses it.")],
    role: Annotated[RoleName, typer.Option(help="Role of the key.")] = RoleName.CLASSIFIER,
    scope: Scopes = None,
    expires_in_days: Days = None,
    allow_address: Addresses = None,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key. The key is shown only once."""
    spec = KeySpec(
        name,
        Role[role.name],
        frozenset(scope or ()),
        _networks(allow_address or ()),
        clock.now() + timedelta(days=expires_in_days) if expires_in_days else None,
    )
    print_new_key(with_database(data, _keys(data).create(operator(tenant), spec)), as_json)


@app.command("list")
def list_(tenant: Tenant = DEFAULT_TENANT, data: Data = None, as_json: AsJson = False) -> None:
    """List the API keys, without their secrets."""
    found = with_database(data, _all(_keys(data), tenant))
    if as_json:
        print(json.dumps([_fields(key) for key in found], indent=1))
        return
    table = Table("id", "name", "role", "starts with", "created", "last used", "state")
    for key in found:
        used = f"{key.last_use_time:%Y-%m-%d %H:%M}" if key.last_use_time else "never"
        add_row(
            table,
            key.key_id,
            key.name,
            key.role.name.lower(),
            key.prefix,
            f"{key.create_time:%Y-%m-%d}",
            used,
            key.state(clock.now()).value,
        )
    out().print(table)


@app.command()
def show(
    key_id: KeyId, tenant: Tenant = DEFAULT_TENANT, data: Data = None, as_json: AsJson = False
) -> None:
    """Show one API key, without its secret."""
    _print(with_database(data, _keys(data).get(tenant, key_id)), as_json)


@app.command()
def update(
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    role: Annotated[RoleName | None, typer.Option(help="New role.")] = None,
    scope: Scopes = None,
    all_scopes: Annotated[bool, typer.Option("--all-scopes", help="Lift the scopes.")] = False,
    expires_in_days: Days = None,
    never_expires: Annotated[
        bool, typer.Option("--never-expires", help="Lift the time of expiry.")
    ] = False,
    allow_address: Addresses = None,
    all_addresses: Annotated[
        bool, typer.Option("--all-addresses", help="Accept the key from every address.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Change an API key; its secret stays. What is not given does not change."""
    _refuse_both(scope, all_scopes, "--scope", "--all-scopes")
    _refuse_both(expires_in_days, never_expires, "--expires-in-days", "--never-expires")
    _refuse_both(allow_address, all_addresses, "--allow-address", "--all-addresses")
    changes: KeyChanges = {}
    if name is not None:
        changes["name"] = name
    if role is not None:
        changes["role"] = Role[role.name]
    if scope or all_scopes:
        changes["scopes"] = frozenset(scope or ())
    if expires_in_days or never_expires:
        end = clock.now() + timedelta(days=expires_in_days) if expires_in_days else None
        changes["expire_time"] = end
    if allow_address or all_addresses:
        changes["allowed_addresses"] = _networks(allow_address or ())
    _print(with_database(data, _keys(data).update(operator(tenant), key_id, changes)), as_json)


@app.command()
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=720,
            help="Hours for which the old secret is still accepted. A day by default; 0 ends it at "
            "once.",
        ),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give an API key a new secret, which is shown only once."""
    overlap = None if overlap_hours is None else timedelta(hours=overlap_hours)
    rotating = _keys(data).rotate(operator(tenant), key_id, overlap)
    print_new_key(with_database(data, rotating), as_json)


@app.command()
def revoke(
    key_id: KeyId, tenant: Tenant = DEFAULT_TENANT, data: Data = None, as_json: AsJson = False
) -> None:
    """Revoke an API key for good. Servers refuse it within seconds."""
    key = with_database(data, _keys(data).revoke(operator(tenant), key_id))
    if as_json:
        print(json.dumps(_fields(key)))
        return
    say("The key is revoked. Servers refuse it within seconds.")


def _keys(data: Data) -> ApiKeys:
    return ApiKeys(settings_for(data).security)


async def _all(keys: ApiKeys, tenant_id: str) -> list[ApiKey]:
    found: list[ApiKey] = []
    token = ""
    while True:
        page = await keys.list_page(tenant_id, None, MAX_PAGE_SIZE, token)
        found += page.items
        if not (token := page.next_page_token):
            return found


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    try:
        return tuple(map(network_of, texts))
    except ValueError as error:
        raise OperatorError(f"--allow-address: {error}.") from None


def _refuse_both(given: object, is_lifted: bool, option: str, lift: str) -> None:
    if given and is_lifted:
        raise OperatorError(f"Give {option} or {lift}, not both.")


def print_new_key(made: NewKey, as_json: bool) -> None:
    """Prints a new key, with its secret."""
    if as_json:
        print(json.dumps({"key": made.secret, **_fields(made.key)}))
        return
    say("API key, shown only this once:")
    print(made.secret)


def _print(key: ApiKey, as_json: bool) -> None:
    fields = _fields(key)
    if as_json:
        print(json.dumps(fields))
        return
    table = Table(box=None, show_header=False)
    for name, value in fields.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value or "-")
        add_row(table, name.replace("_", " "), shown)
    out().print(table)


def _fields(key: ApiKey) -> dict[str, object]:
    def text(time: datetime | None) -> str | None:
        return time.isoformat() if time else None

    return {
        "id": key.key_id,
        "name": key.name,
        "role": key.role.name.lower(),
        "scopes": sorted(scope.value for scope in key.scopes),
        "state": key.state(clock.now()).value,
        "prefix": key.prefix,
        "allowed_addresses": list(map(str, key.allowed_addresses)),
        "create_time": text(key.create_time),
        "expire_time": text(key.expire_time),
        "revoke_time": text(key.revoke_time),
        "last_use_time": text(key.last_use_time),
        "previous_secret_expire_time": text(key.previous_secret_expire_time),
        "created_by": key.created_by,
    }
