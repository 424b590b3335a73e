from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0004_audit")]

    operations = [
        ops.RunSQL(
            ["ALTER TABLE batch_chunks ADD COLUMN breaks jsonb NOT NULL DEFAULT '{}'"],
            reverse_sql=["ALTER TABLE batch_chunks DROP COLUMN breaks"],
        ),
    ]
