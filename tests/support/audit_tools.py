"""Chains of events for tests, and what a forger with the rights of the owner does to them."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.db.audit import append
from image_categorizer_server.domain.audit import Actor, AuditAction, NewEvent
from image_categorizer_server.services.audit_statement import AuditStatements
from image_categorizer_server.settings.audit import AuditSettings

from tests.support.database import connect_as_owner

START = datetime(2026, 1, 31, 23, 59, 59, 1, UTC)
CLIENT = Actor("k-1", "r-1", "192.0.2.1")


def new_event(number: int = 0, tenant: str = "t1", **changes) -> NewEvent:
    event = NewEvent(
        tenant_id=tenant,
        time=START + timedelta(seconds=number),
        actor=CLIENT,
        action=AuditAction.BATCH_CREATE,
        resource=f"b-{number}",
        detail={"item_count": number, "priority": 0, "webhook_host": 'zürich"\n\x01'},
    )
    return replace(event, **changes)


async def write_chain(count: int, tenant: str = "t1", first: int = 1) -> None:
    await append([new_event(number, tenant) for number in range(first, first + count)])


def statements_of(storage, key: SigningKey | None, **settings) -> AuditStatements:
    return AuditStatements(storage, key, AuditSettings(**settings))


@asynccontextmanager
async def forger_of(url: str):
    """Yields a connection with all rights, for which no trigger fires."""
    connection = await connect_as_owner(url)
    try:
        await connection.execute("SET session_replication_role = replica")
        yield connection
    finally:
        await connection.close()
