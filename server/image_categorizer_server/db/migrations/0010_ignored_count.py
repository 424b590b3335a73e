from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0009_table_descriptions")]

    operations = [
        ops.RunSQL(
            ["ALTER TABLE batches ADD COLUMN ignored_count int NOT NULL DEFAULT 0"],
            reverse_sql=["ALTER TABLE batches DROP COLUMN ignored_count"],
        ),
    ]
