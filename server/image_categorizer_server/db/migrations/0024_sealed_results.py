from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0022_erasure")]

    operations = [
        ops.RunSQL(
            [
                "ALTER TABLE batch_results ADD COLUMN sealed bytea",
                "COMMENT ON COLUMN batch_results.sealed IS 'The predictions, encrypted, instead of those in the clear'",
            ],
            reverse_sql="ALTER TABLE batch_results DROP COLUMN sealed",
        ),
    ]
