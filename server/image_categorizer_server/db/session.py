"""Sessions of people; of their secrets only the SHA-256 is kept.

The scope of each function is that of all tenants: whose session it is follows from its secret.
"""

from datetime import datetime
from typing import cast

from image_categorizer_server.db import audit
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.tables import SessionRow
from image_categorizer_server.domain.access import Principal, Role, Scope, Session
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.tenant import all_tenants

INSERT = """
INSERT INTO sessions (tenant_id, secret_sha256, actor_id, role, scopes, create_time, use_time,
    expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
"""
END = """
UPDATE sessions SET end_time = $2 WHERE secret_sha256 = $1 AND end_time IS NULL
RETURNING tenant_id, actor_id
"""


async def insert_session(
    secret_sha256: str, principal: Principal, now: datetime, expire_time: datetime
) -> None:
    """Stores a new session, and removes those of the same person that are over.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with transaction() as connection:
            await connection.execute(
                "DELETE FROM sessions WHERE tenant_id = $1 AND actor_id = $2 AND expire_time < $3",
                principal.tenant_id,
                principal.actor_id,
                now,
            )
            await connection.execute(
                INSERT,
                principal.tenant_id,
                secret_sha256,
                principal.actor_id,
                principal.role.name.lower(),
                sorted(scope.value for scope in principal.scopes),
                now,
                expire_time,
            )
            await audit.record_event(
                connection,
                principal.tenant_id,
                AuditAction.SESSION_CREATE,
                principal.actor_id,
                now,
                role=principal.role.name.lower(),
            )


async def find_session(secret_sha256: str) -> Session | None:
    """Returns the session with this secret, even if it has ended; None if there is none.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with connected() as connection:
            found = await connection.fetchrow(
                "SELECT * FROM sessions WHERE secret_sha256 = $1", secret_sha256
            )
    if found is None:
        return None
    row = cast("SessionRow", found)
    scopes = frozenset(map(Scope, row["scopes"]))
    return Session(
        Principal(row["actor_id"], row["tenant_id"], Role[row["role"].upper()], scopes),
        use_time=row["use_time"],
        expire_time=row["expire_time"],
        end_time=row["end_time"],
    )


async def touch_session(secret_sha256: str, now: datetime) -> None:
    """Writes that a session is used.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with connected() as connection:
            await connection.execute(
                "UPDATE sessions SET use_time = $2 WHERE secret_sha256 = $1", secret_sha256, now
            )


async def end_session(secret_sha256: str, now: datetime) -> None:
    """Ends a session; idempotent.

    Raises:
        DependencyDown: the database does not answer.
    """
    with all_tenants():
        async with transaction() as connection:
            if found := await connection.fetchrow(END, secret_sha256, now):
                row = cast("SessionRow", found)
                await audit.record_event(
                    connection, row["tenant_id"], AuditAction.SESSION_END, row["actor_id"], now
                )
