"""The audit: each event is written in the transaction that it describes, and never changes.

The events of a tenant form a chain: each has the hash of the one before it.  The head of the chain
is a row that a transaction locks last, right before its commit, so that writers of one tenant wait
for one another no longer than a commit takes, and never for one another in a circle.

Triggers refuse UPDATE, DELETE and TRUNCATE.  An event holds no text that a client chose, except the
hosts of webhooks, the names of aliases and the ids of requests: what is never removed must not hold
what somebody may ask to have removed.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import cast
from urllib.parse import urlsplit

from image_categorizer_server.db.database import (
    Connection,
    Row,
    connected,
    ending_of,
    transaction,
)
from image_categorizer_server.db.tables import AuditEventRow
from image_categorizer_server.domain.audit import (
    PLATFORM_CHAIN,
    AuditAction,
    AuditEvent,
    EventFilter,
    Head,
    NewEvent,
    current_actor,
    utc_text,
)
from image_categorizer_server.domain.audit_kind import check_detail
from image_categorizer_server.domain.tenant import all_tenants

PAGE = 1000
APPEND = "SELECT append_audit_events($1::jsonb)"
MATCHES = """
tenant_id = $1 AND ($2::timestamptz IS NULL OR create_time >= $2)
    AND ($3::timestamptz IS NULL OR create_time < $3) AND ($4 = '' OR actor_id = $4)
    AND ($5 = '' OR action = $5 OR (right($5, 1) = '.' AND starts_with(action, $5)))
    AND ($6 = '' OR resource = $6) AND ($7 = '' OR outcome = $7) AND ($8 = '' OR address = $8)
"""
NEWEST = f"""
SELECT * FROM audit_events WHERE {MATCHES} AND ($9::bigint IS NULL OR seq < $9)
ORDER BY seq DESC LIMIT $10
"""  # noqa: S608 - constants
OLDEST = f"""
SELECT * FROM audit_events WHERE {MATCHES} AND seq > $9::bigint ORDER BY seq LIMIT $10
"""  # noqa: S608 - constants
CHAIN = "SELECT * FROM audit_events WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
# A chain whose head or whose events somebody has removed counts, too.
TENANTS = """
SELECT tenant_id FROM audit_heads UNION SELECT DISTINCT tenant_id FROM audit_events ORDER BY 1
"""


class _Events:
    """The events of one transaction."""

    def __init__(self) -> None:
        self._events: list[NewEvent] = []

    def add(self, event: NewEvent) -> None:
        check_detail(event.action, event.detail)
        self._events.append(event)

    async def run(self, connection: Connection) -> None:
        """Appends them, chain after chain: transactions lock several heads in the same order."""
        ordered = sorted(self._events, key=lambda event: event.tenant_id)
        await connection.execute(APPEND, json.dumps([_fields(event) for event in ordered]))


async def record_event(
    connection: Connection,
    tenant_id: str,
    action: AuditAction,
    resource: str,
    now: datetime,
    **detail: object,
) -> None:
    """Adds an event to the audit, for the actor of the current task.

    It is written when the transaction commits, after all its other statements.

    Args:
        connection: has the transaction open that does what the event describes.
        tenant_id: the tenant that owns the resource.
        action: what happens.
        resource: the name of what it happens to.
        now: the current time.
        detail: further facts: texts, integers, booleans, or lists of these; see `KINDS`.

    Raises:
        ValueError: events of this kind do not carry such a detail.
    """
    event = NewEvent(tenant_id, now, current_actor.get(), action, resource, detail=detail)
    ending_of(connection, _Events).add(event)


async def append(events: Sequence[NewEvent]) -> None:
    """Writes events that describe no change of the database, in a transaction of their own.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with transaction() as connection:
            for event in events:
                ending_of(connection, _Events).add(event)


def _fields(event: NewEvent) -> dict[str, object]:
    return {
        "tenant_id": event.tenant_id,
        "create_time": utc_text(event.time),
        "actor_id": event.actor.actor_id,
        "action": event.action.value,
        "resource": event.resource,
        "outcome": event.outcome.value,
        "address": event.actor.address,
        "request_id": event.actor.request_id,
        "detail": event.detail,
    }


async def list_events(
    tenant_id: str, wanted: EventFilter, before: int | None, limit: int
) -> list[AuditEvent]:
    """Returns events of a chain, the newest first.

    Args:
        tenant_id: the tenant, or `PLATFORM_CHAIN`.
        wanted: which events.
        before: only events with a lower number; None for all.
        limit: the maximum number of events.

    Raises:
        DependencyDown: the database does not answer.
    """
    return await _fetch(tenant_id, NEWEST, *_values(tenant_id, wanted), before, limit)


async def export_events(tenant_id: str, wanted: EventFilter) -> AsyncIterator[AuditEvent]:
    """Yields events of a chain, the oldest first, read page by page.

    Raises:
        DependencyDown: the database does not answer.
    """
    values, after = _values(tenant_id, wanted), 0
    while True:
        events = await _fetch(tenant_id, OLDEST, *values, after, PAGE)
        for event in events:
            after = event.seq
            yield event
        if len(events) < PAGE:
            return


async def chain(tenant_id: str, after: int) -> AsyncIterator[AuditEvent]:
    """Yields all events of a chain with a number above `after`, by number.

    Raises:
        DependencyDown: the database does not answer.
    """
    while True:
        events = await _fetch(tenant_id, CHAIN, tenant_id, after, PAGE)
        for event in events:
            after = event.seq
            yield event
        if len(events) < PAGE:
            return


async def _fetch(tenant_id: str, query: str, *values: object) -> list[AuditEvent]:
    # The caller's scope is its own tenant, also where its role permits the chain of the platform.
    with all_tenants() if tenant_id == PLATFORM_CHAIN else nullcontext():
        async with connected() as connection:
            return [_event(row) for row in await connection.fetch(query, *values)]


async def find_head(tenant_id: str) -> Head | None:
    """Returns the head of a chain; None if there is no such chain.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow("SELECT * FROM audit_heads WHERE tenant_id = $1", tenant_id)
    return head_from_row(row) if row else None


async def chains() -> list[str]:
    """Returns the tenants that have a chain.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        return [str(row["tenant_id"]) for row in await connection.fetch(TENANTS)]


def head_from_row(row: Row) -> Head:
    """Returns the head in a row of `audit_heads`."""
    return Head(
        tenant_id=str(row["tenant_id"]),
        seq=cast("int", row["seq"]),
        hash=str(row["hash"]),
        removed_seq=cast("int", row["removed_seq"]),
        removed_hash=str(row["removed_hash"]),
    )


def grants(role: str) -> list[str]:
    """Returns the statements that give a role the rights of the application, and no others.

    It may read the audit, and add to it by the functions that number and chain the events.  They
    run with the rights of the owner of the tables.

    Args:
        role: the name of the role, which is not the owner.
    """
    tables, name = "audit_events, audit_heads", '"' + role.replace('"', '""') + '"'
    return [
        f"REVOKE ALL ON {tables} FROM {name}",
        f"GRANT SELECT ON {tables} TO {name}",
        f"GRANT SELECT, INSERT, UPDATE ON audit_statements TO {name}",
        f"GRANT EXECUTE ON FUNCTION append_audit_events(jsonb) TO {name}",
        f"GRANT EXECUTE ON FUNCTION remove_audit_events(text, bigint, integer) TO {name}",
    ]


def host_of(url: str) -> str:
    """Returns host and port of an address; the rest may hold a secret."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _values(tenant_id: str, wanted: EventFilter) -> list[object]:
    return [
        tenant_id,
        wanted.start_time,
        wanted.end_time,
        wanted.actor_id,
        wanted.action,
        wanted.resource,
        wanted.outcome,
        wanted.address,
    ]


def _event(found: Row) -> AuditEvent:
    row = cast("AuditEventRow", found)
    return AuditEvent(
        tenant_id=row["tenant_id"],
        seq=row["seq"],
        time=row["create_time"],
        actor_id=row["actor_id"],
        action=row["action"],
        resource=row["resource"],
        outcome=row["outcome"],
        address=row["address"],
        request_id=row["request_id"],
        detail=json.loads(row["detail"]),
        prev_hash=row["prev_hash"],
        hash=row["hash"],
    )
