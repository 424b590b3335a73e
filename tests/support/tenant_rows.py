"""Rows of two tenants in every table, whatever tables there are."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from image_categorizer_server.db.isolation import TENANT_TABLES

OURS, THEIRS = "ours", "theirs"
COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL
    AND is_identity = 'NO' ORDER BY ordinal_position
"""
VALUES: Mapping[str, str] = {
    "text": "$1::text || $2::int::text",
    "character varying": "$1::text || $2::int::text",
    "jsonb": "'{}'",
    "boolean": "false",
    "timestamp with time zone": "now()",
    "date": "now()",
    "bytea": "decode(md5($1::text || $2::int::text), 'hex')",
    "ARRAY": "'{}'",
    "integer": "0",
    "smallint": "0",
    "bigint": "$2::int",
    "double precision": "0",
    "real": "0",
    "numeric": "0",
}


async def tenant_tables(connection: asyncpg.Connection) -> list[str]:
    """Returns the names of the tables that have a tenant."""
    return [str(table["name"]) for table in await connection.fetch(TENANT_TABLES)]


async def fill(owner: asyncpg.Connection) -> None:
    """Writes a row of each of the two tenants into every table that has a tenant.

    Foreign keys are not checked meanwhile: tables come in the order of their names.
    """
    await owner.execute("SET session_replication_role = replica")
    for table in await tenant_tables(owner):
        found = await owner.fetch(COLUMNS, table)
        names = ", ".join(column["column_name"] for column in found)
        for number, tenant_id in enumerate((OURS, THEIRS), 1):
            values = ", ".join(
                "$1::text" if column["column_name"] == "tenant_id" else VALUES[column["data_type"]]
                for column in found
            )
            # The number is used by every table that has another column than the tenant.
            query = f"INSERT INTO {table} ({names}) SELECT {values} WHERE $2::int > 0"
            await owner.execute(query, tenant_id, number)
    await owner.execute("RESET session_replication_role")


async def contents(owner: asyncpg.Connection, tenant_id: str) -> dict[str, list[Any]]:
    """Returns all rows of a tenant, by table."""
    return {
        table: sorted(
            repr(row)
            for row in await owner.fetch(f"SELECT * FROM {table} WHERE tenant_id = $1", tenant_id)
        )
        for table in await tenant_tables(owner)
    }
