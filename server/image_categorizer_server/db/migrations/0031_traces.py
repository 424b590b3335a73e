from tortoise import fields, migrations
from tortoise.migrations import operations as ops

# The trace goes on where the work does: in workers, and in webhooks.
STATEMENTS = [
    "ALTER TABLE batches ADD COLUMN traceparent text NOT NULL DEFAULT ''",
    "ALTER TABLE outbox ADD COLUMN traceparent text NOT NULL DEFAULT ''",
    "COMMENT ON COLUMN batches.traceparent IS 'Span of the call that made or retried it; empty without traces'",
    "COMMENT ON COLUMN outbox.traceparent IS 'Span of the call that the event follows from; empty without traces'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0030_confusions")]

    operations = [
        ops.AddField(
            model_name="WebhookDeliveryRow",
            name="traceparent",
            field=fields.CharField(db_default="", max_length=55),
        ),
        ops.RunSQL(
            STATEMENTS,
            reverse_sql=[
                "ALTER TABLE outbox DROP COLUMN traceparent",
                "ALTER TABLE batches DROP COLUMN traceparent",
            ],
        ),
    ]
