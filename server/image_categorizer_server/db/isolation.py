"""Row-level security: the second wall between tenants, behind the conditions of the queries.

Each table with a column `tenant_id` has the policy `tenant`: a connection sees and writes the rows
of its tenant scope, which `engine.py` binds, and no row if none is bound.  The policies hold for
the owner of the tables too, but not for a superuser.  So the programs log in as a role that owns
nothing.  `migrate` protects new tables, and grants the role what it needs.
"""

from typing import cast

from tortoise.backends.base.config_generator import expand_db_url

from image_categorizer_server.db import audit
from image_categorizer_server.db.database import Connection, connected
from image_categorizer_server.db.engine import SCOPE_PARAMETER
from image_categorizer_server.domain.tenant import EVERY_TENANT
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
POLICY = "tenant"
TENANT_TABLES = """
SELECT quote_ident(c.relname) AS name, c.oid,
    starts_with(c.relname, 'audit_') AS is_of_audit,
    c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
        SELECT FROM pg_policy y WHERE y.polrelid = c.oid AND y.polname = 'tenant') AS is_protected
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace AND EXISTS (
    SELECT FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
ORDER BY c.relname
"""
# The subqueries are evaluated once for a statement, not once for a row.  A parameter that was never
# set is null, and one that was reset is empty: both match nothing.
SCOPE = f"(SELECT current_setting('{SCOPE_PARAMETER}', true))"
IS_VISIBLE = f"tenant_id = {SCOPE} OR {SCOPE} = '{EVERY_TENANT}'"
PROTECT = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    f"DROP POLICY IF EXISTS {POLICY} ON {{table}}",
    f"CREATE POLICY {POLICY} ON {{table}} USING ({IS_VISIBLE}) WITH CHECK ({IS_VISIBLE})",
)
CREATE_ROLE = """
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', $1::text)
    || coalesce(format(' PASSWORD %L', $2::text), '')
"""
LOGIN = """
SELECT rolsuper OR rolbypassrls AS is_exempt, EXISTS (
    SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relname = 'batches') AS is_owner
FROM pg_roles r WHERE rolname = current_user
"""
EXEMPT = (
    "the role of DATABASE_URL is a superuser or has BYPASSRLS, so row-level security does not "
    "separate tenants: use another role (see docs/operations.md)"
)
OWNER = (
    "the role of DATABASE_URL owns the tables, so it could switch row-level security off: set "
    "CATEGORIZER_DATABASE__OWNER_URL and use another role (see docs/operations.md)"
)


async def protect_tables(connection: Connection) -> None:
    """Gives every table with a `tenant_id` its policy; the connection is the owner's."""
    for table in await connection.fetch(TENANT_TABLES):
        if not table["is_protected"]:
            async with connection.transaction():
                for statement in PROTECT:
                    await connection.execute(statement.format(table=table["name"]))


async def grant_access(connection: Connection, owner_url: str, url: str) -> None:
    """Creates the role that the programs log in as, unless it exists, and grants it its rights.

    Does nothing if the programs log in as the owner.  It can read the audit, and add to it.

    Args:
        connection: the owner's.
        owner_url: address of the database for the owner.
        url: address of the database for the programs.
    """
    credentials = expand_db_url(url)["credentials"]
    name = cast("str | None", credentials["user"])
    if name is None or name == expand_db_url(owner_url)["credentials"]["user"]:
        return
    async with connection.transaction():
        if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
            create = await connection.fetchval(CREATE_ROLE, name, credentials["password"])
            await connection.execute(str(create))
        role = await connection.fetchval("SELECT quote_ident($1)", name)
        schema = await connection.fetchval("SELECT quote_ident(current_schema())")
        await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        await connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
        await connection.execute(f"GRANT SELECT ON tortoise_migrations TO {role}")
        for table in await connection.fetch(TENANT_TABLES):
            if not table["is_of_audit"]:
                rights = "SELECT, INSERT, UPDATE, DELETE"
                await connection.execute(f"GRANT {rights} ON {table['name']} TO {role}")
        for statement in audit.grants(name):
            await connection.execute(statement)


async def role_problem(environment: str) -> str:
    """Returns why the programs may not log in as their role; empty if they may.

    Only production refuses a role to which row-level security does not apply.  Logs what weakens
    the separation of tenants otherwise.

    Args:
        environment: `CATEGORIZER_ENVIRONMENT`.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        login = await connection.fetchrow(LOGIN)
    assert login is not None, "every session has a role"
    if login["is_exempt"]:
        if environment == "production":
            return EXEMPT
        log.warning(EXEMPT)
    elif login["is_owner"]:
        log.warning(OWNER)
    return ""
