from tortoise import migrations
from tortoise.migrations import operations as ops

RENAMES = {"deaths": "worker_crashes", "breaks": "server_crashes", "is_alone": "is_isolated"}


class Migration(migrations.Migration):
    dependencies = [("models", "0007_due_deliveries")]

    operations = [
        ops.RunSQL(
            [
                *(
                    f"ALTER TABLE batch_chunks RENAME COLUMN {old} TO {new}"
                    for old, new in RENAMES.items()
                ),
                "UPDATE outbox SET kind = 'doorbell' WHERE kind = 'ring'",
            ],
            reverse_sql=[
                *(
                    f"ALTER TABLE batch_chunks RENAME COLUMN {new} TO {old}"
                    for old, new in RENAMES.items()
                ),
                "UPDATE outbox SET kind = 'ring' WHERE kind = 'doorbell'",
            ],
        ),
    ]
