from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "0015_usage")]

    operations = [
        ops.RunSQL(
            """
            CREATE TABLE data_keys (
                data_key_id varchar(32) PRIMARY KEY,
                tenant_id varchar(64) NOT NULL,
                subject_id varchar(64) NOT NULL,
                kek_id varchar(64) NOT NULL,
                wrapped bytea NOT NULL,
                create_time timestamptz NOT NULL,
                UNIQUE (tenant_id, subject_id)
            );
            COMMENT ON TABLE data_keys IS
                'Keys that encrypt stored images, themselves encrypted. Without its row, what a key encrypted is lost.'
            """,
            reverse_sql="DROP TABLE data_keys",
        ),
    ]
