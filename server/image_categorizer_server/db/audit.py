"""The audit: written in the transaction that does what it tells of, and never changed again.

A trigger refuses UPDATE, DELETE and TRUNCATE.  No text that a client chose is in it, but for the
hosts of webhooks and the ids of requests: what is never removed must not hold what somebody may ask
to have removed.
"""

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from image_categorizer_server.domain.audit import AuditAction, current_actor

INSERT = """
INSERT INTO audit_events (tenant_id, create_time, actor_key_id, action, resource, request_id,
    detail)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def note(
    connection: Any,
    tenant_id: str,
    action: AuditAction,
    resource: str,
    now: datetime,
    **detail: object,
) -> None:
    """Writes down what the open transaction of an asyncpg connection does.

    Args:
        connection: has a transaction open.
        tenant_id: whose resource it is.
        action: what happens.
        resource: the name of what it happens to.
        now: when.
        detail: what else is worth knowing, as JSON can hold it.
    """
    await connection.execute(INSERT, *values(tenant_id, action, resource, now, **detail))


def values(
    tenant_id: str, action: AuditAction, resource: str, now: datetime, **detail: object
) -> list[object]:
    """Returns the values of `INSERT`, for connections of Tortoise's; see `note`."""
    actor = current_actor.get()
    text = json.dumps(detail)
    return [tenant_id, now, actor.key_id, action.value, resource, actor.request_id, text]


def host_of(url: str) -> str:
    """Returns host and port of an address; its path may hold a secret."""
    return urlsplit(url).netloc.rpartition("@")[2]
