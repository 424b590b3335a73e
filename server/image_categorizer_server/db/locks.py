"""The order of locks, and the number of every advisory lock.

A transaction that changes a batch, or more than one of its chunks, first locks the row of the
batch.  A transaction that holds only the lock of a chunk waits for no other lock.  So there are no
deadlocks, and each decision about a batch sees all earlier ones.

Last of all a transaction locks the heads of the audit's chains, in the order of the tenants' names,
and then commits: `db/audit.py` collects its events until then.
"""

from typing import cast

from image_categorizer_server.db.database import Connection
from image_categorizer_server.db.tables import BatchRow

# Advisory locks are numbers that all programs of a database share: these are arbitrary, and differ.
MIGRATION_LOCK = 0x1CA7E60
"""One process migrates at a time."""
SWEEP_LOCK = 0x1CA7E61
"""One process expires leases at a time."""
ISOLATION_LOCK = 0x1CA7E62
"""One process at a time sends the server an image that may crash it."""
AUDIT_LOCK = 0x1CA7E66
"""One process at a time makes statements about the audit and removes old events."""
# Locks of one tenant: the hash of its name, seeded with or beside a number.
WEBHOOK_QUOTA_LOCK = 0x1CA7E63
KEY_QUOTA_LOCK = 0x1CA7E6B
TENANT_IMAGES_LOCK = 0x6E9861
BATCH_QUOTA_LOCK = 0x1CA7E64
LEGAL_HOLD_LOCK = 0x1CA7E6C
# Of one subject: the hash of the tenant and the subject.
SUBJECT_LOCK = 0x5B1EC7


async def lock_batch(
    connection: Connection, batch_id: str, tenant_id: str | None = None
) -> BatchRow | None:
    """Locks the row of a batch until the transaction ends; returns None if it does not exist.

    Args:
        connection: has a transaction open.
        batch_id: the batch.
        tenant_id: the tenant that must own the batch; None where a lease proves the right.
    """
    row = await connection.fetchrow(
        "SELECT * FROM batches WHERE batch_id = $1 AND ($2::text IS NULL OR tenant_id = $2)"
        " FOR NO KEY UPDATE",
        batch_id,
        tenant_id,
    )
    return cast("BatchRow | None", row)


async def lock_webhook_quota(connection: Connection, tenant_id: str) -> None:
    """Waits until no other transaction counts and adds webhooks of the tenant."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, hashtext($2))", WEBHOOK_QUOTA_LOCK, tenant_id
    )


async def lock_key_quota(connection: Connection, tenant_id: str) -> None:
    """Waits until no other transaction counts and adds API keys of the tenant."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, hashtext($2))", KEY_QUOTA_LOCK, tenant_id
    )


async def lock_batch_quota(connection: Connection, tenant_id: str) -> None:
    """Waits until no other transaction compares batches of the tenant with its quotas."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, hashtext($2))", BATCH_QUOTA_LOCK, tenant_id
    )


async def lock_tenant_images(connection: Connection, tenant_id: str) -> None:
    """Waits until no other transaction marks images of the tenant, or registers an upload.

    Like every lock it is never held during a call to the storage.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", tenant_id, TENANT_IMAGES_LOCK
    )


async def share_subject(connection: Connection, tenant_id: str, subject_key: str) -> None:
    """Waits until nobody writes the tombstone of a subject; then nobody does until the end."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, $2))",
        f"{tenant_id}/{subject_key}",
        SUBJECT_LOCK,
    )


async def lock_subject(connection: Connection, tenant_id: str, subject_key: str) -> None:
    """Waits until no other transaction writes about a subject."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))",
        f"{tenant_id}/{subject_key}",
        SUBJECT_LOCK,
    )


async def share_holds(connection: Connection, tenant_id: str) -> None:
    """Waits until nobody adds a legal hold of the tenant; then nobody does until the end."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock_shared($1, hashtext($2))", LEGAL_HOLD_LOCK, tenant_id
    )


async def lock_holds(connection: Connection, tenant_id: str) -> None:
    """Waits until no other transaction removes what a legal hold of the tenant may keep."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, hashtext($2))", LEGAL_HOLD_LOCK, tenant_id
    )


async def try_lock(connection: Connection, number: int) -> bool:
    """Takes an advisory lock for the connection, if it is free; returns whether it was."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", number))


async def unlock(connection: Connection, number: int) -> None:
    """Releases what `try_lock` took."""
    await connection.execute("SELECT pg_advisory_unlock($1)", number)
