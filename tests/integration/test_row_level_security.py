"""Row-level security: what a connection sees by itself, whatever its statements say."""

import asyncio

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_categorizer_server.db import webhook as webhook_rows
from image_categorizer_server.db.database import connected, open_database, transaction
from image_categorizer_server.db.engine import SCOPE_PARAMETER
from image_categorizer_server.db.isolation import EXEMPT, OWNER, TENANT_TABLES, role_problem
from image_categorizer_server.db.schema import migrate, schema_problem
from image_categorizer_server.db.tables import WebhookRow
from image_categorizer_server.db.tenant import list_tenants
from image_categorizer_server.domain.tenant import (
    EVERY_TENANT,
    all_tenants,
    bind_tenant,
    current_scope,
    one_tenant,
    unbind_tenant,
)
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.embedded import DATABASE, DATABASE_USER
from image_categorizer_server.local.embedded import OWNER as OWNER_ROLE
from image_categorizer_server.settings.database import DatabaseSettings

from tests.support.database import connect_as_owner, connect_in_scope, owner_of
from tests.support.tenant_rows import OURS, THEIRS, contents, fill, tenant_tables

ONE = DatabaseSettings(pool_size=1)
REFUSED = asyncpg.InsufficientPrivilegeError


@pytest.fixture
async def owner(empty_database):
    """A connection that sees everything, on a database with rows of two tenants."""
    connection = await connect_as_owner(empty_database)
    try:
        await fill(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def ours(owner, empty_database):
    """A connection of the program's role in the scope of our tenant."""
    connection = await connect_in_scope(empty_database, OURS)
    yield connection
    await connection.close()


@pytest.fixture
async def single(owner, empty_database):
    """The program's pool of one connection; the test is bound to no tenant."""
    unbind_tenant()
    async with open_database(empty_database, ONE):
        yield


async def test_every_table_with_a_tenant_is_protected(owner):
    tables = await owner.fetch(TENANT_TABLES)
    assert {"api_keys", "batches", "batch_items", "tenants", "audit_events"} <= {
        table["name"] for table in tables
    }
    assert [table["name"] for table in tables if not table["is_protected"]] == []


async def test_the_role_of_the_programs_owns_nothing_and_is_exempt_from_nothing(ours):
    assert not await ours.fetchval(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles"
        " WHERE rolname = current_user"
    )
    assert not await ours.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner"
        " WHERE r.rolname = current_user"
    )


@pytest.mark.parametrize("scope", ["", "nobody", "our", "OURS", "ours%", " "])
async def test_a_connection_without_a_tenant_sees_nothing(owner, empty_database, scope):
    connection = await connect_in_scope(empty_database, scope)
    for table in await tenant_tables(owner):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    await connection.close()


async def test_a_connection_that_was_never_bound_sees_and_adds_nothing(owner, empty_database):
    connection = await asyncpg.connect(empty_database)
    for table in await tenant_tables(owner):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    with pytest.raises(REFUSED, match="row-level security"):
        await connection.execute(
            "INSERT INTO batch_uploads (batch_id, tenant_id, lease_until) VALUES ('b', $1, now())",
            OURS,
        )
    await connection.close()


async def test_a_tenant_sees_its_own_rows_and_all_of_them(owner, ours):
    for table in await tenant_tables(owner):
        found = await ours.fetch(f"SELECT tenant_id FROM {table}")
        assert [row["tenant_id"] for row in found] == [OURS], table


async def test_the_scope_of_all_tenants_sees_the_rows_of_all(owner, empty_database):
    connection = await connect_in_scope(empty_database, EVERY_TENANT)
    for table in await tenant_tables(owner):
        found = await connection.fetch(f"SELECT DISTINCT tenant_id FROM {table}")
        assert {OURS, THEIRS} <= {row["tenant_id"] for row in found}, table
    await connection.close()


STATEMENTS = (
    "SELECT * FROM {table}",
    "SELECT * FROM {table} WHERE tenant_id = 'theirs'",
    "SELECT * FROM {table} WHERE tenant_id <> 'ours' OR true FOR UPDATE",
    "SELECT t.* FROM {table} t RIGHT JOIN {other} o ON true",
    "SELECT o.* FROM {table} t FULL JOIN {other} o ON o.tenant_id = t.tenant_id",
    "SELECT * FROM {table} WHERE EXISTS (SELECT FROM {other} WHERE tenant_id = 'theirs')",
    "WITH w AS MATERIALIZED (SELECT * FROM {table}) SELECT * FROM w ORDER BY random()",
    "SELECT * FROM {table} UNION ALL SELECT * FROM {table}",
    "SELECT (SELECT string_agg(o::text, ' ') FROM {other} o) FROM {table}",
    "TABLE {table}",
    "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats",
    "UPDATE {table} SET tenant_id = tenant_id RETURNING *",
    "UPDATE {table} t SET tenant_id = t.tenant_id FROM {other} o RETURNING o.*",
    "UPDATE {table} SET tenant_id = 'theirs' RETURNING *",
    "UPDATE {table} SET tenant_id = 'theirs' WHERE tenant_id = 'ours'",
    "DELETE FROM {table} RETURNING *",
    "DELETE FROM {table} WHERE tenant_id = 'theirs'",
    "DELETE FROM {table} USING {other} o WHERE o.tenant_id = 'theirs' RETURNING o.*",
    "INSERT INTO {table} SELECT * FROM {table} WHERE tenant_id = 'theirs'",
    "MERGE INTO {table} t USING {other} o ON true WHEN MATCHED THEN DELETE",
    "COPY {table} TO STDOUT",
    "TRUNCATE {table}",
    "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY tenant ON {table}",
    "CREATE POLICY mine ON {table} USING (true)",
    "SET row_security = off; SELECT * FROM {table}",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
)
CASES = st.tuples(st.sampled_from(STATEMENTS), st.integers(0, 99), st.integers(0, 99))


async def hold(ours, before, statement, table_number, other_number):
    """Asserts that a statement shows and changes nothing of the other tenant."""
    tables = list(before)
    table, other = (tables[number % len(tables)] for number in (table_number, other_number))
    *first, last = statement.format(table=table, other=other).split("; ")
    block = ours.transaction()
    await block.start()
    try:
        for text in first:
            await ours.execute(text)
        seen = repr(await ours.fetch(last))
        await ours.execute(f"SET LOCAL {SCOPE_PARAMETER} = '{EVERY_TENANT}'")
        after = await contents(ours, THEIRS)
    except asyncpg.PostgresError:
        return  # refused, and so without an effect
    finally:
        await block.rollback()
    assert THEIRS not in seen, last
    assert after == before, last


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_no_statement_shows_or_changes_a_row_of_another_tenant(owner, ours, statement):
    await owner.execute("ANALYZE")
    before = await contents(owner, THEIRS)
    for number in range(len(before)):
        await hold(ours, before, statement, number, number + 1)


@pytest.mark.slow
async def test_a_thousand_statements_show_and_change_nothing(owner, ours):
    loop, before = asyncio.get_running_loop(), await contents(owner, THEIRS)

    @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(CASES)
    def check(case):
        asyncio.run_coroutine_threadsafe(hold(ours, before, *case), loop).result(60)

    await asyncio.to_thread(check)


async def test_the_audit_can_be_read_and_added_to_only(ours):
    for statement in ("UPDATE audit_events SET action = ''", "DELETE FROM audit_events"):
        with pytest.raises(REFUSED):
            await ours.execute(statement)


async def test_a_returned_connection_forgets_its_tenant(single):
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM webhooks") == 0
    for scope, count in ((OURS, 1), (THEIRS, 1)):
        with one_tenant(scope):
            async with connected() as connection:
                assert await connection.fetchval("SELECT count(*) FROM webhooks") == count
        async with connected() as connection:
            assert await connection.fetchval("SELECT count(*) FROM webhooks") == 0


async def test_a_connection_that_failed_forgets_its_tenant(single):
    async def fail():
        async with transaction() as connection:
            await connection.execute("DELETE FROM webhooks")
            raise ZeroDivisionError

    with one_tenant(OURS), pytest.raises(ZeroDivisionError):
        await fail()
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM webhooks") == 0
    with one_tenant(OURS):
        async with connected() as connection:
            assert await connection.fetchval("SELECT count(*) FROM webhooks") == 1


async def test_queries_of_tortoise_are_bound_too(single):
    assert await WebhookRow.all().count() == 0
    with one_tenant(OURS):
        assert {row.tenant_id for row in await WebhookRow.all()} == {OURS}
        assert await webhook_rows.list_webhooks(THEIRS) == []
        assert await WebhookRow.filter(tenant_id=THEIRS).delete() == 0
    with all_tenants():
        assert {row.tenant_id for row in await WebhookRow.all()} == {OURS, THEIRS}


async def test_concurrent_tasks_see_their_own_tenant_only(owner, empty_database):
    async def look(tenant_id):
        bind_tenant(tenant_id)
        seen = set()
        for _ in range(20):
            async with connected() as connection:
                rows = await connection.fetch("SELECT tenant_id FROM batches")
                seen |= {row["tenant_id"] for row in rows}
        return seen

    async with open_database(empty_database, DatabaseSettings(pool_size=3)):
        found = await asyncio.gather(*(look(t) for t in (OURS, THEIRS) * 6))
    assert found == [{OURS}, {THEIRS}] * 6


def test_no_name_of_a_tenant_means_all_or_none():
    unbind_tenant()
    for name in ("", EVERY_TENANT):
        with pytest.raises(ValueError, match="not a tenant"):
            bind_tenant(name)
        with pytest.raises(ValueError, match="not a tenant"), one_tenant(name):
            pass
    assert current_scope() == ""


@pytest.fixture
async def old_installation(stores):
    """The address of a database that the role of the programs owns, and has migrated."""
    owner = await connect_as_owner(stores.postgres.url)
    await owner.execute("DROP DATABASE IF EXISTS old WITH (FORCE)")
    await owner.execute(f"CREATE DATABASE old OWNER {DATABASE_USER}")
    await owner.close()
    url = stores.postgres.url.replace(f"/{DATABASE}?", "/old?")
    await migrate(url, DatabaseSettings())
    return url


async def test_with_one_role_the_policies_hold_and_the_log_says_what_is_missing(
    old_installation, caplog
):
    """The policies hold for the owner of the tables too, until it switches them off."""
    async with open_database(old_installation, ONE):
        assert await role_problem("production") == ""
        assert caplog.text.count(OWNER) == 1
    connection = await connect_in_scope(old_installation, OURS)
    await connection.execute("INSERT INTO tenants VALUES ($1, '', 'ACTIVE', now())", OURS)
    assert [row["tenant_id"] for row in await connection.fetch("SELECT * FROM tenants")] == [OURS]
    await connection.close()


async def test_an_installation_changes_from_one_role_to_two(old_installation, caplog):
    owner = await connect_as_owner(old_installation)
    await owner.execute(f"REASSIGN OWNED BY {DATABASE_USER} TO {OWNER_ROLE}")
    await owner.close()
    await migrate(old_installation, DatabaseSettings(owner_url=owner_of(old_installation)))
    async with open_database(old_installation, ONE):
        assert await role_problem("production") == ""
        assert await schema_problem() == ""
        with all_tenants():
            assert [tenant.tenant_id for tenant in await list_tenants("", 10)] == ["default"]
    assert OWNER not in caplog.text


async def test_a_superuser_is_refused_in_production_and_reported_elsewhere(empty_database, caplog):
    async with open_database(owner_of(empty_database), ONE):
        assert await role_problem("production") == EXEMPT
        assert EXEMPT not in caplog.text
        assert await role_problem("development") == ""
        assert EXEMPT in caplog.text
    caplog.clear()
    async with open_database(empty_database, ONE):
        assert await role_problem("production") == ""
    assert "role" not in caplog.text


async def test_a_table_without_its_policy_is_an_unmigrated_database(owner, single):
    await owner.execute("CREATE TABLE later (tenant_id text PRIMARY KEY)")
    try:
        assert "migrate" in await schema_problem()
    finally:
        await owner.execute("DROP TABLE later")
    assert await schema_problem() == ""


async def test_migrating_protects_a_later_table_and_grants_access(owner, stores):
    url = stores.postgres.url
    await owner.execute("CREATE TABLE later (tenant_id text PRIMARY KEY)")
    try:
        await migrate(url, DatabaseSettings(owner_url=owner_of(url)))
        await owner.execute("INSERT INTO later VALUES ($1), ($2)", OURS, THEIRS)
        connection = await connect_in_scope(url, OURS)
        assert [row["tenant_id"] for row in await connection.fetch("DELETE FROM later RETURNING *")]
        await connection.close()
        assert await owner.fetchval("SELECT tenant_id FROM later") == THEIRS
    finally:
        await owner.execute("DROP TABLE later")


async def test_the_role_cannot_migrate(stores):
    with pytest.raises(OperatorError, match="Cannot migrate"):
        await migrate(
            stores.postgres.url.replace(f"/{DATABASE}?", "/postgres?"), DatabaseSettings()
        )
