"""Queries about deliveries: made from the outbox, leased for an attempt, ended by an outcome.

A lease is `next_attempt_time` moved on: who dies with a delivery under way leaves it due again.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tortoise.connection import get_connection

from image_categorizer_server.db.database import faults_as_ours
from image_categorizer_server.db.tables import WebhookDeliveryRow, WebhookRow
from image_categorizer_server.domain.webhook import (
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    DueDelivery,
)

# One statement, so that a message is made once, whoever dies.  Ends of batches are kept for a time,
# as done; that somebody is to be told of a classification, only in its delivery.  Webhooks are
# locked, so that one that is removed or disabled meanwhile leaves no delivery behind.
FAN_OUT = """
WITH taken AS (
    SELECT outbox_id, tenant_id, batch_id, payload, coalesce(payload->>'webhook_url', '') AS url,
        jsonb_build_object('type', payload->'type', 'timestamp', payload->'end_time',
            'data', payload - 'type' - 'webhook_url')::text AS body
    FROM outbox WHERE kind = 'webhook' AND done_time IS NULL
    ORDER BY outbox_id LIMIT $2 FOR UPDATE SKIP LOCKED
), done AS (
    UPDATE outbox SET done_time = $1 FROM taken
    WHERE outbox.outbox_id = taken.outbox_id AND taken.batch_id <> ''
), forgotten AS (
    DELETE FROM outbox USING taken
    WHERE outbox.outbox_id = taken.outbox_id AND taken.batch_id = ''
), hooks AS (
    SELECT tenant_id, webhook_id, state FROM webhooks
    WHERE tenant_id IN (SELECT tenant_id FROM taken) FOR SHARE
), targets AS (
    SELECT taken.*, webhook_id, webhook_id AS target, '' AS own_url
    FROM taken JOIN hooks USING (tenant_id)
    WHERE state = 'ENABLED' AND webhook_id <> 'default' AND taken.batch_id <> ''
    UNION ALL
    SELECT taken.*, 'default', md5(taken.url), taken.url FROM taken
    LEFT JOIN hooks h ON h.tenant_id = taken.tenant_id AND h.webhook_id = 'default'
    WHERE taken.url <> '' AND coalesce(h.state, 'ENABLED') = 'ENABLED'
), made AS (
    INSERT INTO webhook_deliveries (
        delivery_id, tenant_id, webhook_id, target, url, event_type, batch_id, body, state,
        is_under_way, next_attempt_time, lease_token, attempt_count, attempts, create_time)
    SELECT 'd-' || replace(gen_random_uuid()::text, '-', ''), tenant_id, webhook_id, target,
        own_url, payload->>'type', batch_id, body, 'PENDING', false, $1, 0, 0, '[]', $1
    FROM targets
)
SELECT count(*) AS taken FROM taken
"""
IS_ANY_DUE = """
SELECT EXISTS (
    SELECT FROM webhook_deliveries WHERE state = 'PENDING' AND next_attempt_time <= $1) AS due
"""
# Targets that fail are claimed apart from the others, one attempt at a time: dead receivers,
# however many and slow, leave room.  Targets are found one by one, each by a look at an index, and
# of each only what may begin is read: one that is dead may have a hundred thousand waiting.
# Arrays, for PostgreSQL makes each of them once, whatever it believes of the table's size.
CLAIM = """
WITH RECURSIVE waiting AS (
    (SELECT target FROM webhook_deliveries WHERE state = 'PENDING' ORDER BY target LIMIT 1)
    UNION ALL
    SELECT (SELECT d.target FROM webhook_deliveries d
            WHERE d.state = 'PENDING' AND d.target > w.target ORDER BY d.target LIMIT 1)
    FROM waiting w WHERE w.target IS NOT NULL
), targets AS (
    SELECT w.target,
        EXISTS (SELECT FROM webhook_deliveries d
            WHERE d.target = w.target AND d.state = 'PENDING' AND d.attempt_count > 0
        ) AS is_failing,
        (SELECT count(*) FROM webhook_deliveries d
            WHERE d.target = w.target AND d.is_under_way AND d.next_attempt_time > $1) AS under_way
    FROM waiting w WHERE w.target IS NOT NULL
), candidates AS (
    SELECT due.id FROM targets t CROSS JOIN LATERAL (
        SELECT d.id, d.next_attempt_time FROM webhook_deliveries d
        WHERE d.target = t.target AND d.state = 'PENDING' AND d.next_attempt_time <= $1
        ORDER BY d.next_attempt_time, d.id
        LIMIT greatest(0, CASE WHEN is_failing THEN 1 ELSE $4::int END - under_way)) due
    WHERE t.is_failing = $3
    ORDER BY due.next_attempt_time, due.id LIMIT $5
), chosen AS (
    SELECT id, tenant_id, webhook_id FROM webhook_deliveries
    WHERE id = ANY (ARRAY(SELECT id FROM candidates))
    AND state = 'PENDING' AND next_attempt_time <= $1
    FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d
SET is_under_way = true, next_attempt_time = $2, lease_token = lease_token + 1
FROM chosen LEFT JOIN webhooks w USING (tenant_id, webhook_id)
WHERE d.id = chosen.id
RETURNING d.id, d.lease_token, d.delivery_id, d.tenant_id, d.webhook_id, d.body, d.attempt_count,
    coalesce(nullif(d.url, ''), w.url) AS url, w.secret,
    CASE WHEN w.previous_secret_expire_time > $1 THEN w.previous_secret END AS previous_secret
"""
# Of the attempts the newest 20 are kept.
RECORD = """
UPDATE webhook_deliveries SET state = $3, next_attempt_time = $4, end_time = $5,
    is_under_way = false, attempt_count = attempt_count + 1,
    attempts = jsonb_path_query_array(
        jsonb_build_array($6::jsonb) || attempts, '$[0 to 19]')
WHERE id = $1 AND lease_token = $2 AND state = 'PENDING' RETURNING id
"""
# One that is under way goes on as it is: its message may be out already.
REDELIVER = """
UPDATE webhook_deliveries SET state = 'PENDING', next_attempt_time = $4, end_time = NULL,
    is_under_way = false, attempt_count = 0
WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id = $3
AND NOT (is_under_way AND next_attempt_time > $4)
"""
FORGET = """
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE end_time < $1 ORDER BY end_time LIMIT $2
    FOR UPDATE SKIP LOCKED)
RETURNING id
"""


async def fan_out(moment: datetime, limit: int) -> int:
    """Makes deliveries of at most `limit` events of the outbox; returns how many it took."""
    (row,) = await _fetch(FAN_OUT, moment, limit)
    return int(row["taken"])


async def claim(
    moment: datetime,
    lease_end: datetime,
    *,
    is_failing: bool,
    most_per_target: int,
    limit: int,
) -> list[DueDelivery]:
    """Leases at most `limit` deliveries that are due, for one attempt each.

    Args:
        moment: now.
        lease_end: when they become due again, unless an outcome is recorded before.
        is_failing: whether to take those of targets that fail, or those of all others.
        most_per_target: attempts under way to a target that does not fail.
        limit: at least 1.
    """
    return [
        DueDelivery(
            number=row["id"],
            lease_token=row["lease_token"],
            delivery_id=row["delivery_id"],
            tenant_id=row["tenant_id"],
            webhook_id=row["webhook_id"],
            url=row["url"],
            body=row["body"],
            attempt_count=row["attempt_count"],
            secrets=tuple(filter(None, (row["secret"], row["previous_secret"]))),
        )
        for row in await _fetch(CLAIM, moment, lease_end, is_failing, most_per_target, limit)
    ]


async def is_any_due(moment: datetime) -> bool:
    """Returns whether a delivery is due."""
    (row,) = await _fetch(IS_ANY_DUE, moment)
    return bool(row["due"])


async def record(
    due: DueDelivery, attempt: DeliveryAttempt, state: DeliveryState, next_attempt: datetime | None
) -> bool:
    """Writes the outcome of an attempt; returns False where the lease was lost."""
    entry = {
        "start_time": attempt.start_time.isoformat(),
        "duration_ms": attempt.duration_ms,
        "status_code": attempt.status_code,
    }
    end_time = None if state is DeliveryState.PENDING else attempt.start_time
    rows = await _fetch(
        RECORD, due.number, due.lease_token, state.value, next_attempt, end_time, json.dumps(entry)
    )
    return bool(rows)


async def find_delivery(tenant_id: str, webhook_id: str, delivery_id: str) -> Delivery | None:
    """Returns one delivery of one webhook of the tenant."""
    async with faults_as_ours():
        row = await WebhookDeliveryRow.get_or_none(
            tenant_id=tenant_id, webhook_id=webhook_id, delivery_id=delivery_id
        )
        return (await _deliveries(tenant_id, [row]))[0] if row else None


async def list_deliveries(
    tenant_id: str,
    webhook_id: str,
    *,
    before: int | None,
    batch_id: str,
    state: DeliveryState | None,
    limit: int,
) -> list[Delivery]:
    """Returns deliveries of one webhook, the newest first.

    Args:
        tenant_id: whose.
        webhook_id: the webhook.
        before: only those with a lower number; None for all.
        batch_id: only those about this batch; empty for all.
        state: only those in it; None for all.
        limit: the most.
    """
    wanted = WebhookDeliveryRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
    if before is not None:
        wanted = wanted.filter(id__lt=before)
    if batch_id:
        wanted = wanted.filter(batch_id=batch_id)
    if state is not None:
        wanted = wanted.filter(state=state.value)
    async with faults_as_ours():
        return await _deliveries(tenant_id, await wanted.order_by("-id").limit(limit))


async def redeliver(tenant_id: str, webhook_id: str, delivery_id: str, moment: datetime) -> None:
    """Makes a delivery due at `moment`, as if it had not been attempted yet."""
    await _fetch(REDELIVER, tenant_id, webhook_id, delivery_id, moment)


async def forget(ended_before: datetime, limit: int) -> int:
    """Removes at most `limit` deliveries that ended before, the oldest first; returns how many."""
    return len(await _fetch(FORGET, ended_before, limit))


async def _fetch(sql: str, *values: object) -> list[dict[str, Any]]:
    async with faults_as_ours():
        return await get_connection("default").execute_query_dict(sql, list(values))


async def _deliveries(tenant_id: str, rows: Sequence[WebhookDeliveryRow]) -> list[Delivery]:
    ids = {row.webhook_id for row in rows}
    webhooks = await WebhookRow.filter(tenant_id=tenant_id, webhook_id__in=ids)
    urls = {webhook.webhook_id: webhook.url for webhook in webhooks}
    return [_delivery(row, urls.get(row.webhook_id, "")) for row in rows]


def _delivery(row: WebhookDeliveryRow, url: str) -> Delivery:
    return Delivery(
        number=row.id,
        delivery_id=row.delivery_id,
        webhook_id=row.webhook_id,
        event_type=row.event_type,
        batch_id=row.batch_id,
        url=row.url or url,
        state=DeliveryState(row.state),
        next_attempt_time=row.next_attempt_time,
        attempt_count=row.attempt_count,
        attempts=tuple(
            DeliveryAttempt(
                datetime.fromisoformat(str(entry["start_time"])),
                float(str(entry["duration_ms"])),
                int(str(entry["status_code"])),
            )
            for entry in row.attempts
        ),
        create_time=row.create_time,
        end_time=row.end_time,
    )
