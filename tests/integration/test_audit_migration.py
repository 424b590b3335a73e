"""Events from before the chain are chained by the migration, in the database."""

from urllib.parse import urlsplit, urlunsplit

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import audit
from image_categorizer_server.db.database import create_database, tortoise_config
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.audit import FIRST_PREV_HASH
from image_categorizer_server.services.audit_verification import verify_audit
from image_categorizer_server.settings.database import DatabaseSettings
from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate as run_migrations

from tests.support.audit_tools import new_event
from tests.support.database import connect_as_owner, open_for_all_tenants, owner_of

NAME = "unchained"
# Two tenants in turns; numbers have gaps.
ROWS = """
INSERT INTO audit_events (tenant_id, create_time, actor_key_id, action, resource, request_id,
    detail)
SELECT CASE n % 2 WHEN 0 THEN 't1' ELSE 't2' END, now() + n * interval '1 microsecond', 'k-1',
    'batch.create', 'b-' || n, 'r-1',
    jsonb_build_object('webhook_host', 'zürich "' || n, 'item_count', n, 'priority', -1)
FROM generate_series(1, 100) n
"""


@pytest.fixture
async def unchained(stores):
    """The address of a database as it was before, with a hundred events."""
    other = str(urlunsplit(urlsplit(stores.postgres.url)._replace(path=f"/{NAME}")))
    connection = await connect_as_owner(stores.postgres.url)
    await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    await create_database(owner_of(stores.postgres.url), NAME, 10)
    config = dict(tortoise_config(owner_of(other), DatabaseSettings()))
    async with TortoiseContext():
        await run_migrations(config=config, target="models.0011_result_warnings")
    rows = await connect_as_owner(other)
    await rows.execute(ROWS)
    await rows.close()
    yield other
    await connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
    await connection.close()


async def test_old_events_are_chained_and_new_ones_follow_them(unchained, storage):
    await migrate(unchained, DatabaseSettings(owner_url=owner_of(unchained)))
    async with open_for_all_tenants(unchained):
        await audit.append([new_event(1000, time=clock.now())])
        events = [event async for event in audit.chain("t1", 0)]
        assert [event.seq for event in events] == list(range(1, 52))
        assert events[0].prev_hash == FIRST_PREV_HASH
        assert [event.resource for event in events] == [
            *(f"b-{n}" for n in range(2, 102, 2)),
            "b-1000",
        ]
        first = events[0]
        assert (first.actor_id, first.outcome, first.address) == ("k-1", "OK", "")
        report = await verify_audit(storage, None)
        assert (report.chains, report.events, report.findings) == (2, 101, [])
