from tortoise import migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

STATEMENTS = [
    """
    CREATE TABLE retention (
        tenant_id text NOT NULL,
        data_class text NOT NULL,
        days int NOT NULL,
        PRIMARY KEY (tenant_id, data_class)
    )
    """,
    "COMMENT ON TABLE retention IS 'How long tenants keep data that they do not keep as the settings say'",
    "COMMENT ON COLUMN retention.days IS '0: for ever'",
    """
    CREATE TABLE legal_holds (
        tenant_id text NOT NULL,
        hold_id text NOT NULL,
        target text NOT NULL,
        reference text NOT NULL,
        create_time timestamptz NOT NULL,
        end_time timestamptz,
        PRIMARY KEY (tenant_id, hold_id)
    )
    """,
    "CREATE INDEX legal_holds_active ON legal_holds (tenant_id, target) WHERE end_time IS NULL",
    "CREATE INDEX legal_holds_list ON legal_holds (tenant_id, create_time, hold_id)",
    "COMMENT ON TABLE legal_holds IS 'What must not be removed'",
    "COMMENT ON COLUMN legal_holds.target IS 'image: and an id, subject: and a key, or tenant:'",
    # Retention finds what is old by these.
    "CREATE INDEX image_results_time ON image_results (tenant_id, create_time)",
    "CREATE INDEX batches_end ON batches (tenant_id, end_time) WHERE end_time IS NOT NULL",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0027_reviews")]

    operations = [
        ops.RemoveIndex(model_name="WebhookDeliveryRow", name=None, fields=["end_time"]),
        ops.AddIndex(
            model_name="WebhookDeliveryRow", index=Index(fields=["tenant_id", "end_time"])
        ),
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=[
                "DROP INDEX batches_end",
                "DROP INDEX image_results_time",
                "DROP TABLE legal_holds",
                "DROP TABLE retention",
            ],
        ),
    ]
