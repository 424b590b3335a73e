"""Webhooks and their secrets."""

from datetime import datetime

from image_categorizer_server.db import audit, legal_hold
from image_categorizer_server.db.database import (
    Connection,
    connected,
    transaction,
    translated_faults,
)
from image_categorizer_server.db.locks import lock_webhook_quota
from image_categorizer_server.db.tables import WebhookRow
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.webhook import DEFAULT_WEBHOOK, Webhook, WebhookState

INSERT = """
INSERT INTO webhooks (tenant_id, webhook_id, url, state, secret, create_time)
VALUES ($1, $2, $3, $4, $5, $6)
"""
INSERT_DEFAULT = f"{INSERT} ON CONFLICT (tenant_id, webhook_id) DO NOTHING"
UPDATE = """
UPDATE webhooks SET url = coalesce($3, url), state = coalesce($4, state)
WHERE tenant_id = $1 AND webhook_id = $2 RETURNING id
"""
# Several deliveries to one address may find it gone at once: the first one disables the webhook.
# `default` never is: each batch has an address of its own.
DISABLE_GONE = """
UPDATE webhooks SET state = 'GONE'
WHERE tenant_id = $1 AND webhook_id = $2 AND url = $3 AND webhook_id <> 'default'
    AND state <> 'GONE'
RETURNING id
"""
END_DELIVERIES = """
UPDATE webhook_deliveries
SET state = 'FAILED', next_attempt_time = NULL, is_under_way = false, end_time = $3
WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'PENDING'
"""
# The secret in force becomes the previous one.  The one before that ends at once.
ROTATE = """
UPDATE webhooks SET previous_secret = secret, previous_secret_expire_time = $4, secret = $3
WHERE tenant_id = $1 AND webhook_id = $2 RETURNING id
"""


async def insert_webhook(tenant_id: str, webhook: Webhook, secret: str, quota: int) -> bool:
    """Stores a webhook; returns False if the tenant has `quota` beside `default` already.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await lock_webhook_quota(connection, tenant_id)
        if await connection.fetchval(
            "SELECT count(*) >= $2 FROM webhooks WHERE tenant_id = $1 AND webhook_id <> 'default'",
            tenant_id,
            quota,
        ):
            return False
        await connection.execute(
            INSERT,
            tenant_id,
            webhook.webhook_id,
            webhook.url,
            webhook.state.value,
            secret,
            webhook.create_time,
        )
        await audit.record_event(
            connection,
            tenant_id,
            AuditAction.WEBHOOK_CREATE,
            webhook.webhook_id,
            webhook.create_time,
            host=audit.host_of(webhook.url),
        )
    return True


async def ensure_default(tenant_id: str, secret: str, now: datetime) -> None:
    """Stores the tenant's webhook `default` with this secret, unless it exists.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        state = WebhookState.ENABLED.value
        await connection.execute(INSERT_DEFAULT, tenant_id, DEFAULT_WEBHOOK, "", state, secret, now)


async def secrets_of(tenant_id: str, webhook_id: str) -> list[str]:
    """Returns the secret of a webhook; an empty list if it does not exist.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
        rows = await WebhookRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
    return [row.secret for row in rows]


async def find_webhook(tenant_id: str, webhook_id: str) -> Webhook | None:
    """Returns one webhook of the tenant; None if it does not exist.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
        row = await WebhookRow.get_or_none(tenant_id=tenant_id, webhook_id=webhook_id)
    return _webhook(row) if row else None


async def list_webhooks(tenant_id: str) -> list[Webhook]:
    """Returns the tenant's webhooks: `default`, then the others, the oldest first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults():
        rows = await WebhookRow.filter(tenant_id=tenant_id).order_by("id")
    rows.sort(key=lambda row: row.webhook_id != DEFAULT_WEBHOOK)
    return [_webhook(row) for row in rows]


async def update_webhook(
    tenant_id: str, webhook_id: str, now: datetime, url: str | None, state: WebhookState | None
) -> None:
    """Changes what is not None.  Unless the new state is ENABLED, pending deliveries end.

    Raises:
        DependencyDown: the database does not answer.
    """
    detail: dict[str, object] = {}
    if state is not None:
        detail["state"] = state.value
    if url is not None:
        detail["host"] = audit.host_of(url)
    if not detail:
        return
    async with transaction() as connection:
        values = tenant_id, webhook_id, url, state.value if state else None
        if await connection.fetchval(UPDATE, *values):
            action = AuditAction.WEBHOOK_UPDATE
            await audit.record_event(connection, tenant_id, action, webhook_id, now, **detail)
        if state not in (None, WebhookState.ENABLED):
            await _end_deliveries(connection, tenant_id, webhook_id, now)


async def disable_gone(tenant_id: str, webhook_id: str, url: str, now: datetime) -> None:
    """Records that a webhook's address answered 410; its pending deliveries end.

    Does nothing if the webhook has another address by now, or is `default`.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        if await connection.fetchval(DISABLE_GONE, tenant_id, webhook_id, url):
            action, state = AuditAction.WEBHOOK_GONE, WebhookState.GONE.value
            await audit.record_event(connection, tenant_id, action, webhook_id, now, state=state)
            await _end_deliveries(connection, tenant_id, webhook_id, now)


async def _end_deliveries(
    connection: Connection, tenant_id: str, webhook_id: str, now: datetime
) -> None:
    await connection.execute(END_DELIVERIES, tenant_id, webhook_id, now)


async def delete_webhook(tenant_id: str, webhook_id: str, now: datetime) -> bool:
    """Removes a webhook and its deliveries; returns whether it existed.

    Raises:
        LegallyHeld: one of the deliveries is held.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        existed = await connection.fetchval(
            "DELETE FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2 RETURNING true",
            tenant_id,
            webhook_id,
        )
        # After the webhook: `delivery.fan_out` holds its row until the new deliveries exist.
        await legal_hold.refuse_held_webhook(connection, tenant_id, webhook_id)
        await connection.execute(
            "DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2",
            tenant_id,
            webhook_id,
        )
        if existed:
            action = AuditAction.WEBHOOK_DELETE
            await audit.record_event(connection, tenant_id, action, webhook_id, now)
    return bool(existed)


async def rotate_secret(
    tenant_id: str, webhook_id: str, secret: str, now: datetime, previous_expire_time: datetime
) -> None:
    """Puts a new secret in force; the previous one stays valid until `previous_expire_time`.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        values = tenant_id, webhook_id, secret, previous_expire_time
        if await connection.fetchval(ROTATE, *values):
            action = AuditAction.WEBHOOK_ROTATE_SECRET
            await audit.record_event(connection, tenant_id, action, webhook_id, now)


def _webhook(row: WebhookRow) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        url=row.url,
        state=WebhookState(row.state),
        previous_secret_expire_time=row.previous_secret_expire_time,
        create_time=row.create_time,
    )
