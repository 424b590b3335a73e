from tortoise import migrations
from tortoise.migrations import operations as ops

# Results of earlier releases keep the defaults: of them, these facts are not known.
STATEMENTS = [
    """
    ALTER TABLE image_results
        ADD COLUMN digests jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN options jsonb,
        ADD COLUMN input_sha256 text NOT NULL DEFAULT '',
        ADD COLUMN server_version text NOT NULL DEFAULT '',
        ADD COLUMN receipt text NOT NULL DEFAULT ''
    """,
    "COMMENT ON COLUMN image_results.receipt IS 'JSON Web Signature of what is stored; empty: the server had no key'",
    # As in usage_daily, a row is added to, so that any number of processes can count at once.
    """
    CREATE TABLE prediction_daily (
        tenant_id text NOT NULL,
        day date NOT NULL,
        model_name text NOT NULL,
        model_version int NOT NULL,
        kind text NOT NULL,
        bucket text NOT NULL,
        images bigint NOT NULL,
        PRIMARY KEY (tenant_id, day, model_name, model_version, kind, bucket)
    )
    """,
    "CREATE INDEX prediction_daily_day ON prediction_daily (day)",
    "COMMENT ON COLUMN prediction_daily.kind IS 'category, confidence, or checked once somebody has looked for drift'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0022_erasure")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=[
                "DROP TABLE prediction_daily",
                "ALTER TABLE image_results DROP COLUMN digests, DROP COLUMN options, "
                "DROP COLUMN input_sha256, DROP COLUMN server_version, DROP COLUMN receipt",
            ],
        ),
    ]
