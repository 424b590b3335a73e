from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0005_breaks")]

    operations = [
        ops.RunSQL(
            ["CREATE INDEX outbox_done ON outbox (done_time) WHERE done_time IS NOT NULL"],
            reverse_sql=["DROP INDEX outbox_done"],
        ),
    ]
