from tortoise import fields, migrations
from tortoise.migrations import operations as ops

# A row of `erasures` is the tombstone of its subject until `allow_time`.
TABLES = [
    "ALTER TABLE batches ADD COLUMN subject_key text NOT NULL DEFAULT ''",
    "CREATE INDEX batches_subject ON batches (tenant_id, subject_key) WHERE subject_key <> ''",
    "ALTER TABLE batch_uploads ADD COLUMN subject_key text NOT NULL DEFAULT ''",
    "ALTER TABLE outbox ADD COLUMN subject_key text NOT NULL DEFAULT ''",
    "CREATE INDEX outbox_subject ON outbox (tenant_id, subject_key) WHERE subject_key <> ''",
    "CREATE INDEX webhook_deliveries_subject ON webhook_deliveries (tenant_id, subject_key) "
    "WHERE subject_key <> ''",
    """
    CREATE TABLE erasures (
        tenant_id text NOT NULL,
        erasure_id text NOT NULL,
        subject_key text NOT NULL,
        state text NOT NULL,
        step text NOT NULL,
        counts jsonb NOT NULL,
        certificate text NOT NULL,
        create_time timestamptz NOT NULL,
        end_time timestamptz,
        allow_time timestamptz,
        PRIMARY KEY (tenant_id, erasure_id)
    )
    """,
    "CREATE UNIQUE INDEX erasures_subject ON erasures (tenant_id, subject_key) "
    "WHERE allow_time IS NULL",
    "CREATE INDEX erasures_list ON erasures (tenant_id, create_time, erasure_id)",
    "CREATE INDEX erasures_running ON erasures (create_time) WHERE state = 'RUNNING'",
    "COMMENT ON TABLE erasures IS 'Subjects whose data was removed: nothing of them is stored again before allow_time'",
    "COMMENT ON COLUMN erasures.subject_key IS 'Keyed hash of the subject'",
    "COMMENT ON COLUMN erasures.step IS 'What is to be done next'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0021_embeddings")]

    operations = [
        ops.AddField(
            model_name="WebhookDeliveryRow",
            name="subject_key",
            field=fields.CharField(db_default="", max_length=32),
        ),
        ops.RunSQL(
            [statement.strip() for statement in TABLES],
            reverse_sql=[
                "DROP TABLE erasures",
                "DROP INDEX webhook_deliveries_subject",
                "ALTER TABLE outbox DROP COLUMN subject_key",
                "ALTER TABLE batch_uploads DROP COLUMN subject_key",
                "ALTER TABLE batches DROP COLUMN subject_key",
            ],
        ),
    ]
