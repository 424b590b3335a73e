from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for images.  The trigger tells all servers, whoever changes a row: also a foreign key
# that deletes it with its image.
STATEMENTS = [
    """
    CREATE TABLE feedback (
        tenant_id text NOT NULL,
        feedback_id text NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        image_id text NOT NULL,
        result_id text NOT NULL,
        judgement text NOT NULL,
        category text NOT NULL,
        create_time timestamptz NOT NULL,
        undo_time timestamptz,
        PRIMARY KEY (tenant_id, feedback_id),
        UNIQUE (tenant_id, number),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE
    )
    """,
    "CREATE INDEX feedback_of_images ON feedback (tenant_id, image_id, number)",
    "COMMENT ON COLUMN feedback.category IS 'What the image shows; UNKNOWN for NOT_IN_LIST'",
    """
    CREATE FUNCTION notify_feedback() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('access_changes',
            json_build_object('feedback_tenant_id', COALESCE(NEW.tenant_id, OLD.tenant_id))::text);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER feedback_changes AFTER INSERT OR UPDATE OR DELETE ON feedback
    FOR EACH ROW EXECUTE FUNCTION notify_feedback()
    """,
]


class Migration(migrations.Migration):
    dependencies = [("models", "0024_sealed_results")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=["DROP TABLE feedback", "DROP FUNCTION notify_feedback"],
        ),
    ]
