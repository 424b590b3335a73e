"""Deliveries of webhooks: made from the outbox, leased for an attempt, ended by an outcome.

A lease moves `next_attempt_time` forward.  A delivery whose process died is due again then.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, cast

from image_categorizer_server.db.database import connected, translated_faults
from image_categorizer_server.db.tables import WebhookDeliveryRow, WebhookRow
from image_categorizer_server.domain.webhook import (
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    DueDelivery,
)

# One statement, so each message is made once, whichever process dies.  Events of batches stay in
# the outbox for a time, as done; events of classifications stay only as deliveries.  The rows of
# the webhooks are locked: one that is removed or disabled meanwhile leaves no delivery behind.
FAN_OUT = """
WITH taken AS (
    SELECT outbox_id, tenant_id, batch_id, subject_key, traceparent, payload,
        coalesce(payload->>'webhook_url', '') AS url,
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
        is_under_way, next_attempt_time, lease_token, attempt_count, attempts, create_time,
        subject_key, traceparent)
    SELECT 'd-' || replace(gen_random_uuid()::text, '-', ''), tenant_id, webhook_id, target,
        own_url, payload->>'type', batch_id, body, 'PENDING', false, $1, 0, 0, '[]', $1,
        subject_key, traceparent
    FROM targets
)
SELECT count(*) AS taken FROM taken
"""
IS_ANY_DUE = """
SELECT EXISTS (
    SELECT FROM webhook_deliveries WHERE state = 'PENDING' AND next_attempt_time <= $1) AS due
"""
# Failing targets are claimed apart from the others, one attempt at a time, so that dead receivers,
# however many and slow, take no capacity from live ones.  The query walks an index from target to
# target, and reads only the deliveries of each that may begin: a dead target may have 100,000 due.
# ARRAY(...): PostgreSQL evaluates it once, whatever it estimates the table's size to be.
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
    d.traceparent,
    coalesce(nullif(d.url, ''), w.url) AS url, w.secret,
    CASE WHEN w.previous_secret_expire_time > $1 THEN w.previous_secret END AS previous_secret
"""
# Keeps the newest 20 attempts.
RECORD = """
UPDATE webhook_deliveries SET state = $3, next_attempt_time = $4, end_time = $5,
    is_under_way = false, attempt_count = attempt_count + 1,
    attempts = jsonb_path_query_array(
        jsonb_build_array($6::jsonb) || attempts, '$[0 to 19]')
WHERE id = $1 AND lease_token = $2 AND state = 'PENDING' RETURNING id
"""
# An attempt under way goes on: its message may be sent already.
REDELIVER = """
UPDATE webhook_deliveries SET state = 'PENDING', next_attempt_time = $4, end_time = NULL,
    is_under_way = false, attempt_count = 0
WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id = $3
AND NOT (is_under_way AND next_attempt_time > $4)
"""


class ClaimedRow(TypedDict):
    """A row of `CLAIM`."""

    id: int
    lease_token: int
    delivery_id: str
    tenant_id: str
    webhook_id: str
    body: str
    attempt_count: int
    traceparent: str
    url: str
    secret: str | None
    previous_secret: str | None


async def fan_out(now: datetime, limit: int) -> int:
    """Makes deliveries of at most `limit` events of the outbox; returns the number of events.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return cast("int", await connection.fetchval(FAN_OUT, now, limit))


async def claim(
    now: datetime, lease_end: datetime, *, is_failing: bool, max_per_target: int, limit: int
) -> list[DueDelivery]:
    """Leases at most `limit` deliveries that are due, for one attempt each.

    Args:
        now: the current time.
        lease_end: when they are due again unless an outcome is recorded.
        is_failing: whether to claim from failing targets or from all others.
        max_per_target: the maximum number of attempts under way to a target that does not fail.
        limit: at least 1.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(CLAIM, now, lease_end, is_failing, max_per_target, limit)
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
            traceparent=row["traceparent"],
        )
        for row in cast("Sequence[ClaimedRow]", rows)
    ]


async def is_any_due(now: datetime) -> bool:
    """Returns whether a delivery is due.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return bool(await connection.fetchval(IS_ANY_DUE, now))


async def record(
    due: DueDelivery,
    attempt: DeliveryAttempt,
    state: DeliveryState,
    next_attempt_time: datetime | None,
) -> bool:
    """Writes the outcome of an attempt; returns False if the lease is lost.

    Raises:
        DependencyDown: the database does not answer.
    """
    entry = {
        "start_time": attempt.start_time.isoformat(),
        "duration_ms": attempt.duration_ms,
        "status_code": attempt.status_code,
    }
    async with connected() as connection:
        recorded = await connection.fetchval(
            RECORD,
            due.number,
            due.lease_token,
            state.value,
            next_attempt_time,
            None if state is DeliveryState.PENDING else attempt.start_time,
            json.dumps(entry),
        )
    return recorded is not None


async def find_delivery(tenant_id: str, webhook_id: str, delivery_id: str) -> Delivery | None:
    """Returns one delivery of a webhook of the tenant; None if it does not exist.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
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
    """Returns deliveries of a webhook of the tenant, the newest first.

    Args:
        tenant_id: the tenant.
        webhook_id: the webhook.
        before: only deliveries with a lower number; None for all.
        batch_id: only deliveries about this batch; empty for all.
        state: only deliveries in this state; None for all.
        limit: the maximum number of deliveries.

    Raises:
        DependencyDown: the database does not answer.
    """
    wanted = WebhookDeliveryRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
    if before is not None:
        wanted = wanted.filter(id__lt=before)
    if batch_id:
        wanted = wanted.filter(batch_id=batch_id)
    if state is not None:
        wanted = wanted.filter(state=state.value)
    async with translated_faults():
        return await _deliveries(tenant_id, await wanted.order_by("-id").limit(limit))


async def redeliver(tenant_id: str, webhook_id: str, delivery_id: str, now: datetime) -> None:
    """Makes a delivery due now, as if it had not been attempted.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await connection.execute(REDELIVER, tenant_id, webhook_id, delivery_id, now)


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
