"""Uploads: their items are written page by page, and become a batch in one transaction.

    begin_upload ─▶ write_items ─▶ … ─▶ accept ─▶ a batch
          │  extend_upload, meanwhile
          └─▶ give_up_upload: sweeps remove the items and the images

An upload has a lease.  Once its server is dead the lease ends, and a sweep gives the upload up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from image_categorizer_server import clock, failpoints
from image_categorizer_server.db import audit, outbox, removal, usage
from image_categorizer_server.db.batch import Admission, create_chunks, finish_if_done
from image_categorizer_server.db.convert import options_to_json
from image_categorizer_server.db.database import (
    BULK_TIMEOUT_S,
    Connection,
    connected,
    transaction,
)
from image_categorizer_server.db.locks import lock_tenant_images
from image_categorizer_server.db.tables import BatchRow
from image_categorizer_server.db.tombstone import refuse_erased
from image_categorizer_server.domain.audit import AuditAction
from image_categorizer_server.domain.batch import BatchConfig, BatchItem, ItemError
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.domain.usage import Usage, UsageKey
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.telemetry.tracing import current_traceparent

GIVEN_UP = "the upload was silent for too long"
INSERT_BATCH = """
INSERT INTO batches (batch_id, tenant_id, state, state_message, options, webhook_url, priority,
    request_id, request_sha256, item_count, succeeded_count, failed_count, run_count, created_by,
    create_time, mark_count, last_mark_count, ignored_count, image_bytes, subject_key,
    traceparent)
VALUES ($1, $2, 'QUEUED', '', $3, $4, $5, $6, $7, $8, 0, 0, 1, $9, $10, 0, 0, $11, $12, $13, $14)
ON CONFLICT (tenant_id, request_id) DO NOTHING
RETURNING batch_id
"""
# Items that were refused during the upload get their outcomes at once.
FAIL_REFUSED = """
WITH refused AS (
    INSERT INTO batch_results (batch_id, number, tenant_id, status, reason, message, model_name,
        model_version, model_digest, create_time)
    SELECT batch_id, number, tenant_id, status, reason, message, '', 0, '', $2::timestamptz
    FROM batch_items WHERE batch_id = $1 AND status IS NOT NULL
    RETURNING 1
)
UPDATE batches SET failed_count = (SELECT count(*) FROM refused) WHERE batch_id = $1
RETURNING failed_count
"""
# Not by COPY, which PostgreSQL refuses on tables with row-level security.
INSERT_ITEMS = """
INSERT INTO batch_items (batch_id, number, tenant_id, filename, object_key, image_uri, size_bytes,
    blur, status, reason, message)
SELECT $1::text, i.number, $2::text, i.filename, i.object_key, i.image_uri, i.size_bytes,
    string_to_array(i.blur, ' '), i.status, i.reason, i.message
FROM unnest($3::int[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[],
    $10::text[], $11::text[]) AS i (number, filename, object_key, image_uri, size_bytes, blur,
    status, reason, message)
"""
EXTEND = """
UPDATE batch_uploads u SET lease_until = $2 WHERE batch_id = $1 AND NOT EXISTS (
    SELECT FROM erasures e WHERE e.tenant_id = u.tenant_id AND e.subject_key = u.subject_key
    AND e.allow_time IS NULL)
"""
FORGET_REQUEST_ID = """
UPDATE batches SET request_id = NULL, request_sha256 = NULL
WHERE tenant_id = $1 AND request_id = $2 AND create_time < $3
"""


UploadItem = tuple[BatchItem, ItemError | None]
"""An item, and why it was refused."""


async def begin_upload(
    tenant_id: str, batch_id: str, lease_s: float, subject_key: str = ""
) -> frozenset[str]:
    """Registers an upload; until it ends no more images of the tenant are removed.

    Returns:
        The keys of images that are being removed.  The upload may store such an image only once
        `removal.is_removing` says that it is gone.

    Raises:
        SubjectErased: the subject was erased.
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await refuse_erased(connection, tenant_id, subject_key)
        await lock_tenant_images(connection, tenant_id)
        await connection.execute(
            "INSERT INTO batch_uploads (batch_id, tenant_id, lease_until, subject_key)"
            " VALUES ($1, $2, $3, $4)",
            batch_id,
            tenant_id,
            clock.now() + timedelta(seconds=lease_s),
            subject_key,
        )
        return await removal.find_removing(connection, tenant_id)


async def extend_upload(batch_id: str, lease_s: float) -> bool:
    """Makes the upload's lease last `lease_s` from now.

    Returns:
        False if the upload was given up, or its subject was erased.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        done = await connection.execute(EXTEND, batch_id, clock.now() + timedelta(seconds=lease_s))
    return done == "UPDATE 1"


async def write_items(tenant_id: str, batch_id: str, items: Sequence[UploadItem]) -> None:
    """Writes items of an upload; an item with an error was refused.

    Raises:
        DependencyDown: the database does not answer, or the upload was given up.
    """
    async with transaction() as connection:
        # Excludes `give_up_upload`: it either waits for this page and removes it too, or came
        # first.
        if not await connection.fetchval(
            "SELECT true FROM batch_uploads WHERE batch_id = $1 FOR KEY SHARE", batch_id
        ):
            raise DependencyDown(GIVEN_UP)
        rows = [
            (
                item.number,
                item.filename,
                item.object_key,
                item.image_uri,
                item.size_bytes,
                " ".join(item.blur),
                *((error.status, error.reason, error.message) if error else (None,) * 3),
            )
            for item, error in items
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        await connection.execute(
            INSERT_ITEMS, batch_id, tenant_id, *columns, timeout=BULK_TIMEOUT_S
        )


async def give_up_upload(tenant_id: str, batch_id: str, keys: Sequence[str] = ()) -> None:
    """Removes an upload; sweeps remove its items and its images.

    Does nothing but for `keys` if the upload became a batch.

    Args:
        tenant_id: the tenant that uploads.
        batch_id: the batch that the upload would have become.
        keys: images that may be stored though no item was written for them; they go to the outbox
            even if the upload was given up before.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        given_up = await connection.fetchval(
            "SELECT true FROM batch_uploads WHERE batch_id = $1 AND tenant_id = $2 FOR UPDATE",
            batch_id,
            tenant_id,
        )
        now = clock.now()
        await removal.add_images(connection, tenant_id, batch_id, now, keys)
        if given_up:
            await removal.add_rows(connection, tenant_id, batch_id, now)
            await connection.execute("DELETE FROM batch_uploads WHERE batch_id = $1", batch_id)


async def take_silent_uploads(lease_s: float) -> list[tuple[str, str, str]]:
    """Leases uploads whose own lease has ended; returns tenant, batch and subject of each.

    Args:
        lease_s: how long nobody else gets them; looking for their images may take long.

    Raises:
        DependencyDown: the database does not answer.
    """
    now = clock.now()
    async with connected() as connection:
        rows = await connection.fetch(
            "UPDATE batch_uploads SET lease_until = $2 WHERE lease_until < $1"
            " RETURNING tenant_id, batch_id, subject_key",
            now,
            now + timedelta(seconds=lease_s),
        )
    return [(str(row["tenant_id"]), str(row["batch_id"]), str(row["subject_key"])) for row in rows]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A complete upload, about to become a batch."""

    batch_id: str
    tenant_id: str
    key_id: str
    """The API key that creates the batch."""
    config: BatchConfig
    request_sha256: str
    """Equal for uploads of the same images with the same configuration."""
    item_count: int
    ignored_count: int
    image_bytes: int
    """Size of its images, without those that it names by URI."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of an upload."""

    batch_id: str
    """The new batch, or the one that was created before with the same request id."""
    request_sha256: str
    """Of the request that created the batch."""
    is_new: bool


async def accept(
    new: NewBatch, chunk_items: int, request_id_s: float, admission: Admission | None = None
) -> Acceptance:
    """Makes an upload a batch, in one transaction, or finds the batch that it repeats.

    Of several concurrent requests with one id, one becomes the batch, and the others find it.

    Args:
        new: the upload.
        chunk_items: the maximum number of items in a chunk.
        request_id_s: how long a request id is remembered.
        admission: is asked unless the upload repeats a batch; None admits all.

    Raises:
        SubjectErased: the subject was erased meanwhile.
        DependencyDown: the database does not answer, or the upload was given up.
    """
    now = clock.now()
    remembered_since = now - timedelta(seconds=request_id_s)
    async with transaction() as connection:
        await refuse_erased(connection, new.tenant_id, new.config.subject_key)
        if admission:  # first: equal requests find one another, and count once
            await admission.lock(connection)
        earlier = await _find_earlier(connection, new, remembered_since)
        if earlier is not None:
            return earlier
        if admission:
            await admission.admit(connection, new.item_count)
        if not await _insert(connection, new, now):
            # Another request with this id has just committed.
            earlier = await _find_earlier(connection, new, remembered_since)
            if earlier is None:
                raise DependencyDown("the batch of this request id was removed just now")
            return earlier
        if not await connection.fetchval(
            "DELETE FROM batch_uploads WHERE batch_id = $1 RETURNING true", new.batch_id
        ):
            raise DependencyDown(GIVEN_UP)
        failed = await connection.fetchval(FAIL_REFUSED, new.batch_id, now, timeout=BULK_TIMEOUT_S)
        if failed:
            key = UsageKey(new.tenant_id, now.date(), new.key_id, new.config.options.model)
            count = cast("int", failed)
            await usage.add(connection, {key: Usage(images=count, failed=count)})
        await create_chunks(connection, new.batch_id, chunk_items, now)
        if not await finish_if_done(connection, new.batch_id, now):
            await outbox.add(connection, OutboxKind.DOORBELL, new.tenant_id, new.batch_id, now)
        failpoints.hit("batch.accepting")
    failpoints.hit("batch.accepted")
    return Acceptance(new.batch_id, new.request_sha256, is_new=True)


async def _insert(connection: Connection, new: NewBatch, now: datetime) -> bool:
    """Writes the row of the batch, and the audit; returns False if its request id is taken.

    Waits for another transaction that has written the same request id.
    """
    config = new.config
    inserted = await connection.fetchval(
        INSERT_BATCH,
        new.batch_id,
        new.tenant_id,
        options_to_json(config.options),
        config.webhook_url,
        config.priority,
        config.request_id or None,
        new.request_sha256,
        new.item_count,
        new.key_id,
        now,
        new.ignored_count,
        new.image_bytes,
        config.subject_key,
        current_traceparent(),
    )
    if inserted is None:
        return False
    await audit.record_event(
        connection,
        new.tenant_id,
        AuditAction.BATCH_CREATE,
        new.batch_id,
        now,
        item_count=new.item_count,
        priority=config.priority,
        webhook_host=audit.host_of(config.webhook_url),
    )
    return True


async def _find_earlier(
    connection: Connection, new: NewBatch, remembered_since: datetime
) -> Acceptance | None:
    """Returns the batch that was created with the same request id; None if there is none."""
    request_id = new.config.request_id
    if not request_id:
        return None
    await connection.execute(FORGET_REQUEST_ID, new.tenant_id, request_id, remembered_since)
    found = await connection.fetchrow(
        "SELECT * FROM batches WHERE tenant_id = $1 AND request_id = $2", new.tenant_id, request_id
    )
    if found is None:
        return None
    batch = cast("BatchRow", found)
    assert batch["request_sha256"] is not None
    return Acceptance(batch["batch_id"], batch["request_sha256"], is_new=False)
