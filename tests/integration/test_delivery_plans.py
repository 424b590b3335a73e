"""What it costs to look for due deliveries, in rows that PostgreSQL reads."""

import json
from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.db import delivery as deliveries
from image_categorizer_server.db import outbox

from tests.support.database import connect_as_owner, connect_in_scope

WAITING = 20_000
DEAD = """
INSERT INTO webhook_deliveries (delivery_id, tenant_id, webhook_id, target, url, event_type,
    batch_id, body, state, is_under_way, next_attempt_time, lease_token, attempt_count, attempts,
    create_time)
SELECT 'd-' || n, 'default', 'w-dead', 'w-dead', 'https://dead.test/', 'batch.completed', 'b',
    '{}', 'PENDING', false, $1, 0, 0, '[]', $1
FROM generate_series(1, $2) AS n
"""
DONE = """
INSERT INTO outbox (tenant_id, kind, batch_id, payload, create_time, take_after, done_time)
SELECT 'default', 'webhook', 'b', '{}', $1, $1, $1 FROM generate_series(1, $2)
"""


@pytest.fixture
async def connection(emptied):
    connection = await connect_in_scope(emptied)
    now = clock.now()
    await connection.execute(DEAD, now - timedelta(hours=1), WAITING)
    await connection.execute(DONE, now - timedelta(hours=1), WAITING)
    owner = await connect_as_owner(emptied)
    await owner.execute("VACUUM ANALYZE webhook_deliveries, outbox")
    await owner.close()
    yield connection
    await connection.close()


async def rows_read(connection, sql, *values):
    """Runs a statement; returns the most rows that one step of its plan gave, or threw away."""
    (row,) = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *values)
    steps = [json.loads(row[0])[0]["Plan"]]
    most = 0
    while steps:
        step = steps.pop()
        steps += step.get("Plans", [])
        rows = step["Actual Rows"] + step.get("Rows Removed by Filter", 0)
        most = max(most, rows * step["Actual Loops"])
    return most


@pytest.mark.parametrize("is_failing", [False, True])
async def test_a_dead_receiver_s_backlog_is_not_read_at_each_look(connection, is_failing):
    now = clock.now()
    lease_end = now + timedelta(seconds=30)
    assert await rows_read(connection, deliveries.CLAIM, now, lease_end, is_failing, 1, 128) < 100
    assert await rows_read(connection, deliveries.IS_ANY_DUE, now) < 100
    under_way = "SELECT count(*) FROM webhook_deliveries WHERE is_under_way"
    assert await connection.fetchval(under_way) == (not is_failing)


async def test_what_is_remembered_is_not_read_at_each_look(connection):
    now = clock.now()
    assert await rows_read(connection, deliveries.FAN_OUT, now, 500) < 100
    assert await rows_read(connection, outbox.FORGET, now - timedelta(days=7), 1000) < 100
