"""Queries about webhooks and their secrets."""

from datetime import datetime

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from image_categorizer_server.db import audit
from image_categorizer_server.db.database import faults_as_ours
from image_categorizer_server.db.tables import WebhookDeliveryRow, WebhookRow
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.webhook import (
    DEFAULT_WEBHOOK,
    DeliveryState,
    Webhook,
    WebhookState,
)

# Any number will do, as long as no other lock of this database takes the same with a tenant's hash.
QUOTA_LOCK = 0x1CA7E61

INSERT_DEFAULT = """
INSERT INTO webhooks (tenant_id, webhook_id, url, state, secret, create_time)
VALUES ($1, 'default', '', 'ENABLED', $2, $3) ON CONFLICT (tenant_id, webhook_id) DO NOTHING
"""
# Only the secret that is in force becomes the previous one: the one before it ends at once.
ROTATE = """
UPDATE webhooks SET previous_secret = secret, previous_secret_expire_time = $4, secret = $3
WHERE tenant_id = $1 AND webhook_id = $2
"""


async def insert_webhook(tenant_id: str, webhook: Webhook, secret: str, most: int) -> bool:
    """Stores a new webhook; returns False where the tenant has `most` beside `default` already."""
    async with faults_as_ours(), in_transaction() as connection:
        await connection.execute_query(
            "SELECT pg_advisory_xact_lock($1, hashtext($2))", [QUOTA_LOCK, tenant_id]
        )
        others = WebhookRow.filter(tenant_id=tenant_id).exclude(webhook_id=DEFAULT_WEBHOOK)
        if await others.using_db(connection).count() >= most:
            return False
        await WebhookRow.create(
            using_db=connection,
            tenant_id=tenant_id,
            webhook_id=webhook.webhook_id,
            url=webhook.url,
            state=webhook.state.value,
            secret=secret,
            create_time=webhook.create_time,
        )
        await _note(
            connection,
            tenant_id,
            AuditAction.WEBHOOK_CREATE,
            webhook.webhook_id,
            webhook.create_time,
            host=audit.host_of(webhook.url),
        )
    return True


async def ensure_default(tenant_id: str, secret: str, moment: datetime) -> None:
    """Stores the tenant's webhook `default` with this secret, where there is none yet."""
    async with faults_as_ours():
        await get_connection("default").execute_query(INSERT_DEFAULT, [tenant_id, secret, moment])


async def secrets_of(tenant_id: str, webhook_id: str) -> list[str]:
    """Returns the secret in force of a webhook, none where there is no such webhook."""
    async with faults_as_ours():
        rows = await WebhookRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
    return [row.secret for row in rows]


async def find_webhook(tenant_id: str, webhook_id: str) -> Webhook | None:
    """Returns one webhook of the tenant."""
    async with faults_as_ours():
        row = await WebhookRow.get_or_none(tenant_id=tenant_id, webhook_id=webhook_id)
    return _webhook(row) if row else None


async def list_webhooks(tenant_id: str) -> list[Webhook]:
    """Returns the tenant's webhooks, `default` first, then the oldest first."""
    async with faults_as_ours():
        rows = await WebhookRow.filter(tenant_id=tenant_id).order_by("id")
    return [_webhook(row) for row in sorted(rows, key=lambda row: row.webhook_id != "default")]


async def update_webhook(
    tenant_id: str, webhook_id: str, moment: datetime, url: str | None, state: WebhookState | None
) -> None:
    """Changes what is not None; unless ENABLED then, its pending deliveries end."""
    changes = {
        **({} if url is None else {"url": url}),
        **({} if state is None else {"state": state.value}),
    }
    if not changes:
        return
    shown: dict[str, object] = {} if state is None else {"state": state.value}
    if url is not None:
        shown["host"] = audit.host_of(url)
    async with faults_as_ours(), in_transaction() as connection:
        mine = WebhookRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
        if await mine.using_db(connection).update(**changes):
            action = AuditAction.WEBHOOK_UPDATE
            await _note(connection, tenant_id, action, webhook_id, moment, **shown)
        if state not in (None, WebhookState.ENABLED):
            await _end_pending(connection, tenant_id, webhook_id, moment)


async def disable_gone(tenant_id: str, webhook_id: str, url: str, moment: datetime) -> None:
    """Notes that a webhook's address answered 410; its pending deliveries end.

    A webhook that has another address by now stays, and so does `default`: another batch has
    another address.
    """
    gone = WebhookState.GONE.value
    async with faults_as_ours(), in_transaction() as connection:
        mine = WebhookRow.filter(tenant_id=tenant_id, webhook_id=webhook_id, url=url)
        others = mine.exclude(webhook_id=DEFAULT_WEBHOOK)
        # Every delivery that is under way may say so.
        if await others.exclude(state=gone).using_db(connection).update(state=gone):
            action = AuditAction.WEBHOOK_GONE
            await _note(connection, tenant_id, action, webhook_id, moment, state=gone)
            await _end_pending(connection, tenant_id, webhook_id, moment)


async def _end_pending(
    connection: BaseDBAsyncClient, tenant_id: str, webhook_id: str, moment: datetime
) -> None:
    pending = WebhookDeliveryRow.filter(
        tenant_id=tenant_id, webhook_id=webhook_id, state=DeliveryState.PENDING.value
    )
    await pending.using_db(connection).update(
        state=DeliveryState.FAILED.value,
        next_attempt_time=None,
        is_under_way=False,
        end_time=moment,
    )


async def delete_webhook(tenant_id: str, webhook_id: str, moment: datetime) -> bool:
    """Removes a webhook and its deliveries; returns whether it existed."""
    async with faults_as_ours(), in_transaction() as connection:
        mine = WebhookRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
        has_existed = await mine.using_db(connection).delete() == 1
        # After the webhook: whoever makes deliveries for it holds its row until they are there.
        deliveries = WebhookDeliveryRow.filter(tenant_id=tenant_id, webhook_id=webhook_id)
        await deliveries.using_db(connection).delete()
        if has_existed:
            await _note(connection, tenant_id, AuditAction.WEBHOOK_DELETE, webhook_id, moment)
    return has_existed


async def rotate_secret(
    tenant_id: str,
    webhook_id: str,
    secret: str,
    moment: datetime,
    previous_expire_time: datetime,
) -> None:
    """Puts a new secret in force; the one before stays so until `previous_expire_time`."""
    async with faults_as_ours(), in_transaction() as connection:
        changed, _ = await connection.execute_query(
            ROTATE, [tenant_id, webhook_id, secret, previous_expire_time]
        )
        if changed:
            action = AuditAction.WEBHOOK_ROTATE_SECRET
            await _note(connection, tenant_id, action, webhook_id, moment)


async def _note(
    connection: BaseDBAsyncClient,
    tenant_id: str,
    action: AuditAction,
    webhook_id: str,
    moment: datetime,
    **detail: object,
) -> None:
    values = audit.values(tenant_id, action, webhook_id, moment, **detail)
    await connection.execute_query(audit.INSERT, values)


def _webhook(row: WebhookRow) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        url=row.url,
        state=WebhookState(row.state),
        previous_secret_expire_time=row.previous_secret_expire_time,
        create_time=row.create_time,
    )
