"""tenants: the owners of keys, batches, webhooks and images."""

import json
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server.cli.connection import Data, with_database
from image_categorizer_server.cli.key import print_new_key
from image_categorizer_server.cli.output import AsJson, add_row, out, say
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.key import NewKey
from image_categorizer_server.domain.tenant import Tenant
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.paging import MAX_PAGE_SIZE
from image_categorizer_server.services import key as keys
from image_categorizer_server.services import tenant as tenants

app = typer.Typer(help="Create, change, suspend and delete tenants.", no_args_is_help=True)
TenantId = Annotated[str, typer.Argument(help="ID of the tenant.")]


@app.command()
def create(
    tenant_id: TenantId,
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    admin_key: Annotated[
        bool,
        typer.Option("--admin-key", help="Also create a key with the role admin, and print it."),
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create a tenant."""

    async def work() -> tuple[Tenant, NewKey | None]:
        created = await tenants.create_tenant(tenant_id, display_name)
        if not admin_key:
            return created, None
        return created, await keys.create_key("first admin", Role.ADMIN, tenant_id=tenant_id)

    tenant, key = with_database(data, work())
    if key:
        print_new_key(key, as_json)
    elif as_json:
        print(json.dumps(_fields(tenant)))
    else:
        say(f"The tenant {tenant_id} is created.")


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List the tenants."""
    found = with_database(data, _all())
    if as_json:
        print(json.dumps([_fields(tenant) for tenant in found], indent=1))
        return
    table = Table("tenant", "name", "state", "created")
    for tenant in found:
        day = f"{tenant.create_time:%Y-%m-%d}"
        add_row(table, tenant.tenant_id, tenant.display_name, tenant.state.value, day)
    out().print(table)


@app.command()
def update(
    tenant_id: TenantId,
    display_name: Annotated[str | None, typer.Option(help="New name for people.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="A limit of its own, such as images_per_day=10000; 0 is none. Without a number it "
            "is that of the settings again. Repeat the option for several.",
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Change the name or the limits of a tenant. What is not given does not change."""

    async def work() -> Tenant:
        limits = dict((await tenants.get_tenant(tenant_id)).limits)
        for text in limit or ():
            name, _, value = text.partition("=")
            limits.pop(name, None)
            if value:
                limits[name] = _number(text, value)
        return await tenants.update_tenant(tenant_id, display_name, limits if limit else None)

    tenant = with_database(data, work())
    if as_json:
        print(json.dumps(_fields(tenant)))
        return
    shown = ", ".join(f"{name}={value}" for name, value in tenant.limits.items())
    say(f"The tenant {tenant_id} has {f'the limits {shown}' if shown else 'no limits of its own'}.")


@app.command()
def suspend(tenant_id: TenantId, data: Data = None) -> None:
    """Suspend a tenant. Servers refuse its credentials within seconds, and its batches wait."""
    with_database(data, tenants.suspend_tenant(tenant_id))
    say(f"The tenant {tenant_id} is suspended.")


@app.command()
def resume(tenant_id: TenantId, data: Data = None) -> None:
    """Resume a suspended tenant. Its batches go on."""
    with_database(data, tenants.resume_tenant(tenant_id))
    say(f"The tenant {tenant_id} is active.")


@app.command()
def delete(
    tenant_id: TenantId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Delete a tenant and everything that it has. This cannot be undone."""
    if not yes:
        question = f"Delete the tenant {tenant_id} with its keys, batches, webhooks and images?"
        typer.confirm(question, abort=True, err=True)
    with_database(data, tenants.delete_tenant(tenant_id))
    say(f"The tenant {tenant_id} is deleted. Workers remove what it has within minutes.")


def _number(text: str, value: str) -> float:
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise OperatorError(f"--limit {text}: the limit is not a number.") from None


async def _all() -> list[Tenant]:
    found: list[Tenant] = []
    token = ""
    while True:
        page = await tenants.list_tenants(MAX_PAGE_SIZE, token)
        found += page.items
        if not (token := page.next_page_token):
            return found


def _fields(tenant: Tenant) -> dict[str, object]:
    return {
        "tenant_id": tenant.tenant_id,
        "display_name": tenant.display_name,
        "state": tenant.state.value,
        "create_time": tenant.create_time.isoformat(),
        "delete_time": tenant.delete_time and tenant.delete_time.isoformat(),
        "limits": dict(tenant.limits),
    }
