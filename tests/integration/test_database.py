"""Migrations, and API keys in PostgreSQL."""

import asyncio

import pytest
from image_categorizer_server.access.api_key import sha256_of
from image_categorizer_server.db import key as keys
from image_categorizer_server.db.database import (
    check_database,
    open_database,
    tortoise_config,
)
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.services import key as admin
from image_categorizer_server.settings.database import DatabaseSettings
from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector

from tests.support.database import connect_as_owner, owner_of

QUICK = DatabaseSettings(timeout_s=1)


async def fetch(url, query):
    connection = await connect_as_owner(url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def test_migrating_twice_and_at_once_changes_nothing(stores):
    owned = QUICK.model_copy(update={"owner_url": owner_of(stores.postgres.url)})
    await asyncio.gather(*(migrate(stores.postgres.url, owned) for _ in range(4)))
    applied = await fetch(stores.postgres.url, "SELECT name FROM tortoise_migrations ORDER BY id")
    names = [row["name"] for row in applied]
    assert names == sorted(set(names))


async def test_migrations_cover_all_tables():
    config = tortoise_config("postgres://nobody@localhost/none", QUICK)
    async with TortoiseContext() as context:
        await context.init(config=config)
        changes = await MigrationAutodetector(context.apps, config["apps"]).changes()
    assert [operation for writer in changes for operation in writer.operations] == []


async def test_every_table_carries_a_tenant(stores):
    rows = await fetch(
        stores.postgres.url,
        """
        SELECT table_name FROM information_schema.tables t
        WHERE table_schema = 'public' AND table_name <> 'tortoise_migrations' AND NOT EXISTS (
            SELECT FROM information_schema.columns c WHERE c.table_name = t.table_name
            AND c.column_name = 'tenant_id' AND c.is_nullable = 'NO')
        """,
    )
    assert rows == []


async def test_a_key_is_found_by_its_hash_and_its_secret_is_nowhere(database, stores):
    made = await admin.create_key("camera", Role.OPERATOR)
    found = await keys.find_key(sha256_of(made.secret))
    assert (found.key, found.is_previous) == (made.key, False)
    assert await keys.find_key(sha256_of("ic_other")) is None
    stored = str(await fetch(stores.postgres.url, "SELECT * FROM api_keys"))
    assert made.secret not in stored
    assert made.secret[8:] not in stored


async def test_a_lost_database_is_a_dependency_down():
    async with open_database("postgres://nobody@localhost:1/none", QUICK):
        with pytest.raises(DependencyDown, match="database"):
            await check_database()
        with pytest.raises(DependencyDown, match="database"):
            await keys.get_key("default", "k")


@pytest.mark.parametrize("url", ["postgres://nobody@localhost:1/none", "mysql://x/y", "nonsense"])
async def test_a_database_that_cannot_be_migrated_says_why(url):
    with pytest.raises(OperatorError):
        await migrate(url, QUICK)
