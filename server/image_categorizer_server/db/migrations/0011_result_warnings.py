from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0010_ignored_count")]

    operations = [
        ops.RunSQL(
            "ALTER TABLE batch_results ADD COLUMN warnings text[] NOT NULL DEFAULT '{}'",
            reverse_sql="ALTER TABLE batch_results DROP COLUMN warnings",
        ),
    ]
