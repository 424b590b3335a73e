from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL: the keys have two columns, which Tortoise does not know, and no row of these tables is
# ever read through it.  No foreign keys: `db/removal.py` removes what belongs to a batch after the
# batch, and every key begins with the column that a large installation partitions by.
TABLES = [
    """
    CREATE TABLE batches (
        batch_id text PRIMARY KEY,
        tenant_id text NOT NULL,
        state text NOT NULL,
        state_message text NOT NULL,
        options jsonb NOT NULL,
        webhook_url text NOT NULL,
        priority int NOT NULL,
        request_id text,
        request_sha256 text,
        item_count int NOT NULL,
        succeeded_count int NOT NULL,
        failed_count int NOT NULL,
        run_count int NOT NULL,
        created_by text NOT NULL,
        create_time timestamptz NOT NULL,
        start_time timestamptz,
        end_time timestamptz,
        expire_time timestamptz,
        mark_time timestamptz,
        mark_count int NOT NULL,
        last_mark_time timestamptz,
        last_mark_count int NOT NULL,
        UNIQUE (tenant_id, request_id),
        CHECK (succeeded_count + failed_count <= item_count)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)
    """,
    "CREATE INDEX batches_newest ON batches (tenant_id, create_time DESC, batch_id DESC)",
    """
    CREATE TABLE batch_uploads (
        batch_id text PRIMARY KEY,
        tenant_id text NOT NULL,
        lease_until timestamptz NOT NULL
    )
    """,
    "CREATE INDEX batch_uploads_tenant ON batch_uploads (tenant_id)",
    """
    CREATE TABLE batch_items (
        batch_id text,
        number int,
        tenant_id text NOT NULL,
        filename text NOT NULL,
        object_key text,
        image_uri text,
        size_bytes bigint,
        status text,
        reason text,
        message text,
        PRIMARY KEY (batch_id, number)
    )
    """,
    "CREATE INDEX batch_items_object ON batch_items USING hash (object_key) "
    "WHERE object_key IS NOT NULL",
    """
    CREATE TABLE batch_chunks (
        batch_id text,
        number int,
        tenant_id text NOT NULL,
        priority int NOT NULL,
        first_item int NOT NULL,
        item_count int NOT NULL,
        done_count int NOT NULL,
        state text NOT NULL,
        lease_token bigint NOT NULL,
        lease_until timestamptz,
        worker text NOT NULL,
        deaths int NOT NULL,
        is_alone boolean NOT NULL,
        available_at timestamptz NOT NULL,
        PRIMARY KEY (batch_id, number),
        CHECK (done_count <= item_count)
    ) WITH (autovacuum_vacuum_scale_factor = 0.02)
    """,
    "CREATE INDEX batch_chunks_ready ON batch_chunks "
    "(tenant_id, priority DESC, available_at, batch_id, number) WHERE state = 'READY'",
    "CREATE INDEX batch_chunks_leased ON batch_chunks (lease_until) INCLUDE (tenant_id) "
    "WHERE state = 'LEASED'",
    "CREATE SEQUENCE batch_lease_tokens",
    """
    CREATE TABLE batch_results (
        batch_id text,
        number int,
        tenant_id text NOT NULL,
        status text NOT NULL,
        reason text NOT NULL,
        message text NOT NULL,
        predictions jsonb,
        model_name text NOT NULL,
        model_version int NOT NULL,
        model_digest text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (batch_id, number)
    )
    """,
    "CREATE INDEX batch_results_failed ON batch_results (batch_id, number) WHERE status <> 'OK'",
    """
    CREATE TABLE outbox (
        outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant_id text NOT NULL,
        kind text NOT NULL,
        batch_id text NOT NULL,
        payload jsonb NOT NULL,
        create_time timestamptz NOT NULL,
        take_after timestamptz NOT NULL,
        done_time timestamptz
    )
    """,
    "CREATE INDEX outbox_waiting ON outbox (kind, outbox_id) WHERE done_time IS NULL",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0001_initial")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLES],
            reverse_sql=[
                "DROP TABLE outbox, batch_results, batch_chunks, batch_items, batch_uploads, batches",
                "DROP SEQUENCE batch_lease_tokens",
            ],
        ),
    ]
