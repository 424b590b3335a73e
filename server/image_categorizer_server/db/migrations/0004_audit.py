from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for batches: no row is read through Tortoise.  The trigger holds for our own mistakes
# and for whoever gets at our credentials by way of SQL; an owner of the table could still drop it.
TABLE = [
    """
    CREATE TABLE audit_events (
        tenant_id text,
        event_id bigint GENERATED ALWAYS AS IDENTITY,
        create_time timestamptz NOT NULL,
        actor_key_id text NOT NULL,
        action text NOT NULL,
        resource text NOT NULL,
        request_id text NOT NULL,
        detail jsonb NOT NULL,
        PRIMARY KEY (tenant_id, event_id)
    )
    """,
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% of % is refused: it is append-only', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
]


class Migration(migrations.Migration):
    dependencies = [("models", "0003_webhooks")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLE],
            reverse_sql=["DROP TABLE audit_events", "DROP FUNCTION refuse_change"],
        ),
    ]
