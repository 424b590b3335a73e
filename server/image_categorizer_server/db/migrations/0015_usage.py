from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for batches: no row is read through Tortoise.  A row of the usage is added to, never
# replaced, so that any number of processes can count at once.  `model_ms` is a sum of shares.
TABLE = [
    """
    CREATE TABLE usage_daily (
        tenant_id text,
        day date,
        key_id text,
        model text,
        images bigint NOT NULL DEFAULT 0,
        cached_images bigint NOT NULL DEFAULT 0,
        failed bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        model_ms double precision NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant_id, day, key_id, model)
    )
    """,
    "CREATE INDEX usage_daily_day ON usage_daily (day)",
    "ALTER TABLE batches ADD COLUMN image_bytes bigint NOT NULL DEFAULT 0",
    """
    UPDATE batches b SET image_bytes = s.bytes
    FROM (SELECT batch_id, sum(size_bytes) AS bytes FROM batch_items GROUP BY batch_id) s
    WHERE s.batch_id = b.batch_id AND s.bytes IS NOT NULL
    """,
]


class Migration(migrations.Migration):
    dependencies = [("models", "0014_audit_chain")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLE],
            reverse_sql=[
                "ALTER TABLE batches DROP COLUMN image_bytes",
                "DROP TABLE usage_daily",
            ],
        ),
    ]
