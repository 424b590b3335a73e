"""The audit: each event is written in the transaction that it describes, and never changes.

A trigger refuses UPDATE, DELETE and TRUNCATE.  An event holds no text that a client chose, except
the hosts of webhooks and the ids of requests: what is never removed must not hold what somebody may
ask to have removed.
"""

import json
from datetime import datetime
from urllib.parse import urlsplit

from image_categorizer_server.db.database import Connection
from image_categorizer_server.domain.audit import AuditAction, current_actor

INSERT = """
INSERT INTO audit_events (tenant_id, create_time, actor_key_id, action, resource, request_id,
    detail)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def record_event(
    connection: Connection,
    tenant_id: str,
    action: AuditAction,
    resource: str,
    now: datetime,
    **detail: object,
) -> None:
    """Adds an event to the audit, for the actor of the current task.

    Args:
        connection: has the transaction open that does what the event describes.
        tenant_id: the tenant that owns the resource.
        action: what happens.
        resource: the name of what it happens to.
        now: the current time.
        detail: further facts, as JSON can hold them.
    """
    actor = current_actor.get()
    await connection.execute(
        INSERT,
        tenant_id,
        now,
        actor.key_id,
        action.value,
        resource,
        actor.request_id,
        json.dumps(detail),
    )


def host_of(url: str) -> str:
    """Returns host and port of an address; the rest may hold a secret."""
    return urlsplit(url).netloc.rpartition("@")[2]
