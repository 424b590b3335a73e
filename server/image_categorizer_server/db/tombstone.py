"""Tombstones: subjects of which nothing is stored, because they were erased.

A writer calls `refuse_erased` in the transaction that writes about a subject.  It takes the lock of
the subject in shared mode, and the transaction that writes the tombstone takes it alone.  So a
writer either commits before the tombstone, and the erasure finds its rows, or sees the tombstone.

The erasure itself is in `erasure`, which needs what the writers are part of.
"""

from image_categorizer_server.db.database import Connection
from image_categorizer_server.db.locks import share_subject
from image_categorizer_server.errors import SubjectErased

TOMBSTONE = """
SELECT * FROM erasures WHERE tenant_id = $1 AND subject_key = $2 AND allow_time IS NULL
"""


async def refuse_erased(connection: Connection, tenant_id: str, subject_key: str) -> None:
    """Passes a subject about whom something may be stored in the open transaction.

    Raises:
        SubjectErased: the subject was erased, and is not allowed again.
    """
    if not subject_key:
        return
    await share_subject(connection, tenant_id, subject_key)
    if await connection.fetchrow(TOMBSTONE, tenant_id, subject_key):
        raise SubjectErased(
            "what was stored about the subject was erased; allow the subject to store anew"
        )
