from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL: no row is read through Tortoise.
TABLE = [
    """
    CREATE TABLE sessions (
        tenant_id text NOT NULL,
        secret_sha256 text PRIMARY KEY,
        actor_id text NOT NULL,
        role text NOT NULL,
        scopes text[] NOT NULL,
        create_time timestamptz NOT NULL,
        use_time timestamptz NOT NULL,
        expire_time timestamptz NOT NULL,
        end_time timestamptz
    )
    """,
    "CREATE INDEX sessions_actor ON sessions (tenant_id, actor_id)",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0015_usage")]

    operations = [
        ops.RunSQL([statement.strip() for statement in TABLE], reverse_sql=["DROP TABLE sessions"]),
    ]
