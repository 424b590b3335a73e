"""The database beside the program: as its owner, and as the program's role for all tenants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from image_categorizer_server.db.database import open_database
from image_categorizer_server.db.engine import SCOPE_PARAMETER
from image_categorizer_server.domain.tenant import EVERY_TENANT, all_tenants
from image_categorizer_server.errors import TenantExists
from image_categorizer_server.local.embedded import DATABASE_USER, OWNER
from image_categorizer_server.services import tenant as tenants
from image_categorizer_server.settings.database import DatabaseSettings

DEFAULT_TENANT_ROW = """
INSERT INTO tenants (tenant_id, display_name, state, create_time)
VALUES ('default', '', 'ACTIVE', now()) ON CONFLICT DO NOTHING
"""


def owner_of(url: str) -> str:
    """Returns the address of the same database for its owner, a superuser."""
    return url.replace(f"://{DATABASE_USER}@", f"://{OWNER}@", 1)


async def connect_as_owner(url: str) -> asyncpg.Connection:
    """Returns a connection to which no policy applies."""
    return await asyncpg.connect(owner_of(url))


async def connect_in_scope(url: str, scope: str = EVERY_TENANT) -> asyncpg.Connection:
    """Returns a connection of the program's role, bound to a tenant scope."""
    return await asyncpg.connect(url, server_settings={SCOPE_PARAMETER: scope})


@asynccontextmanager
async def open_for_all_tenants(
    url: str, settings: DatabaseSettings | None = None
) -> AsyncIterator[None]:
    """Opens the database for a test that uses services directly, for any tenant."""
    with all_tenants():
        async with open_database(url, settings or DatabaseSettings()):
            yield


async def ensure_tenants(*tenant_ids: str) -> None:
    """Creates tenants that do not exist."""
    for tenant_id in tenant_ids:
        with suppress(TenantExists):
            await tenants.create_tenant(tenant_id)


async def run_as_owner(url: str, statement: str) -> None:
    """Runs a statement that the program's role may not run."""
    connection = await connect_as_owner(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
