"""Legal holds.

Whoever removes something calls `refuse_held` or `share_holds` in the transaction that removes it.
That takes the lock of the tenant's holds in shared mode, and the transaction that adds a hold takes
it alone.  So a removal either commits before the hold, which then finds nothing, or sees the hold.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypedDict, cast

from image_categorizer_server.db import audit
from image_categorizer_server.db.database import Connection, Row, connected, transaction
from image_categorizer_server.db.locks import lock_holds, share_holds
from image_categorizer_server.db.tombstone import TOMBSTONE
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.legal_hold import (
    WHOLE_TENANT,
    HoldKind,
    HoldTarget,
    LegalHold,
)
from image_categorizer_server.errors import ImageNotFound, LegallyHeld, SubjectErased

# Before every hold.
FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
IS_HELD = """
SELECT true FROM legal_holds
WHERE tenant_id = $1 AND target = ANY ($2::text[]) AND end_time IS NULL LIMIT 1
"""
# Of a subject, and of each of its images.
HOLDS_SUBJECT = """
SELECT true FROM legal_holds h
WHERE h.tenant_id = $1 AND h.end_time IS NULL AND h.create_time > $3
    AND (h.target IN ('tenant:', 'subject:' || $2::text)
        OR (h.target LIKE 'image:%' AND EXISTS (SELECT FROM images i
            WHERE i.tenant_id = $1 AND i.image_id = substr(h.target, 7) AND i.subject_key = $2)))
LIMIT 1
"""
HOLDS_ANY = "SELECT true FROM legal_holds WHERE tenant_id = $1 AND end_time IS NULL LIMIT 1"
HOLDS_DELIVERY = """
SELECT true FROM webhook_deliveries d
JOIN legal_holds h ON h.tenant_id = d.tenant_id AND h.end_time IS NULL
    AND h.target IN ('tenant:', 'subject:' || d.subject_key)
WHERE d.tenant_id = $1 AND d.webhook_id = $2 LIMIT 1
"""
IMAGE = """
SELECT true FROM images WHERE tenant_id = $1 AND image_id = $2 AND lease_until IS NULL
"""
INSERT = """
INSERT INTO legal_holds (tenant_id, hold_id, target, reference, create_time)
VALUES ($1, $2, $3, $4, $5)
"""
GET = "SELECT * FROM legal_holds WHERE tenant_id = $1 AND hold_id = $2"
RELEASE = """
UPDATE legal_holds SET end_time = $3
WHERE tenant_id = $1 AND hold_id = $2 AND end_time IS NULL RETURNING *
"""
LIST = """
SELECT * FROM legal_holds WHERE tenant_id = $1 AND (create_time, hold_id) < ($2, $3)
ORDER BY create_time DESC, hold_id DESC LIMIT $4
"""


class HoldRow(TypedDict):
    """A row of `legal_holds`."""

    tenant_id: str
    hold_id: str
    target: str
    reference: str
    create_time: datetime
    end_time: datetime | None


def targets_of(subject_key: str = "", image_id: str = "") -> list[HoldTarget]:
    """Returns what keeps an image, or something else of a subject, if it is held."""
    subject = [HoldTarget(HoldKind.SUBJECT, subject_key)] if subject_key else []
    image = [HoldTarget(HoldKind.IMAGE, image_id)] if image_id else []
    return [WHOLE_TENANT, *subject, *image]


async def refuse_held(
    connection: Connection, tenant_id: str, targets: Iterable[HoldTarget]
) -> None:
    """Passes what the open transaction may remove: nothing holds it before its end.

    Raises:
        LegallyHeld: one of the targets is held.
    """
    if await is_held(connection, tenant_id, targets):
        raise _refusal()


async def is_held(connection: Connection, tenant_id: str, targets: Iterable[HoldTarget]) -> bool:
    """Returns whether something holds a target; nothing else does before the transaction ends."""
    await share_holds(connection, tenant_id)
    texts = [target.text() for target in targets]
    return bool(await connection.fetchval(IS_HELD, tenant_id, texts))


async def refuse_held_subject(
    connection: Connection, tenant_id: str, subject_key: str, since: datetime = FIRST_TIME
) -> None:
    """Passes a subject that is not held, and none of whose images is, by a hold after a time.

    Raises:
        LegallyHeld: something of the subject is held.
    """
    await share_holds(connection, tenant_id)
    await _refuse(connection, HOLDS_SUBJECT, tenant_id, subject_key, since)


async def refuse_held_webhook(connection: Connection, tenant_id: str, webhook_id: str) -> None:
    """Passes a webhook none of whose deliveries is held.

    Raises:
        LegallyHeld: one is.
    """
    await share_holds(connection, tenant_id)
    await _refuse(connection, HOLDS_DELIVERY, tenant_id, webhook_id)


async def refuse_any_held(connection: Connection, tenant_id: str) -> None:
    """Passes a tenant of which nothing is held.

    Raises:
        LegallyHeld: something is.
    """
    await share_holds(connection, tenant_id)
    await _refuse(connection, HOLDS_ANY, tenant_id)


async def _refuse(connection: Connection, query: str, *values: object) -> None:
    if await connection.fetchval(query, *values):
        raise _refusal()


def _refusal() -> LegallyHeld:
    return LegallyHeld("a legal hold keeps it: release the hold to remove it")


async def create(hold: LegalHold) -> None:
    """Adds a hold.

    Raises:
        ImageNotFound: the tenant has no such image.
        SubjectErased: the subject was erased, or is being.
        DependencyDown: the database does not answer.
    """
    target = hold.target
    async with transaction() as connection:
        await lock_holds(connection, hold.tenant_id)
        found = hold.tenant_id, target.key
        if target.kind is HoldKind.IMAGE and not await connection.fetchval(IMAGE, *found):
            raise ImageNotFound("no such image")
        if target.kind is HoldKind.SUBJECT and await connection.fetchrow(TOMBSTONE, *found):
            raise SubjectErased("the subject was erased, or is being erased")
        await connection.execute(
            INSERT, hold.tenant_id, hold.hold_id, target.text(), hold.reference, hold.create_time
        )
        await _record(connection, AuditAction.LEGAL_HOLD_CREATE, hold, hold.create_time)


async def release(tenant_id: str, hold_id: str, now: datetime) -> LegalHold | None:
    """Ends a hold, unless it has ended, and returns it; None if the tenant has no such hold.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        row = await connection.fetchrow(RELEASE, tenant_id, hold_id, now)
        if row is not None:
            hold = _hold(row)
            await _record(connection, AuditAction.LEGAL_HOLD_RELEASE, hold, now)
            return hold
        row = await connection.fetchrow(GET, tenant_id, hold_id)
    return _hold(row) if row else None


async def list_holds(tenant_id: str, before: tuple[datetime, str], limit: int) -> list[LegalHold]:
    """Returns holds before a position, newest first.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows: Sequence[Row] = await connection.fetch(LIST, tenant_id, *before, limit)
    return [_hold(row) for row in rows]


async def _record(
    connection: Connection, action: AuditAction, hold: LegalHold, now: datetime
) -> None:
    await audit.record_event(
        connection,
        hold.tenant_id,
        action,
        hold.hold_id,
        now,
        kind=hold.target.kind.value,
        target=hold.target.key,
    )


def _hold(found: Row) -> LegalHold:
    row = cast("HoldRow", found)
    return LegalHold(
        tenant_id=row["tenant_id"],
        hold_id=row["hold_id"],
        target=HoldTarget.from_text(row["target"]),
        reference=row["reference"],
        create_time=row["create_time"],
        end_time=row["end_time"],
    )
