from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for images.  A head is made of the images that it names: it goes with the first of
# them, whoever removes that, and the triggers tell all servers.
STATEMENTS = [
    """
    CREATE TABLE categories (
        tenant_id text NOT NULL,
        category text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, category)
    )
    """,
    """
    CREATE TABLE category_examples (
        tenant_id text NOT NULL,
        image_id text NOT NULL,
        category text NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, image_id),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE,
        FOREIGN KEY (tenant_id, category) REFERENCES categories ON DELETE CASCADE
    )
    """,
    "CREATE INDEX examples_of_categories ON category_examples (tenant_id, category, number)",
    """
    CREATE TABLE category_heads (
        tenant_id text NOT NULL,
        model_digest text NOT NULL,
        number integer NOT NULL,
        revision text NOT NULL,
        categories text[] NOT NULL,
        image_ids text[] NOT NULL,
        labels text[] NOT NULL,
        weights bytea NOT NULL,
        total_count integer NOT NULL,
        right_count integer NOT NULL,
        baseline_right_count integer NOT NULL,
        refusal text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, model_digest, number)
    )
    """,
    "COMMENT ON COLUMN category_heads.revision IS 'Hash of the examples of the trial'",
    "COMMENT ON COLUMN category_heads.refusal IS 'Why it was not promoted; empty if it was'",
    """
    CREATE FUNCTION notify_categories() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('access_changes',
            json_build_object('category_tenant_id', COALESCE(NEW.tenant_id, OLD.tenant_id))::text);
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION remove_category_heads() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM category_heads
        WHERE tenant_id = OLD.tenant_id AND OLD.image_id = ANY(image_ids);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER category_changes AFTER INSERT OR UPDATE OR DELETE ON categories
    FOR EACH ROW EXECUTE FUNCTION notify_categories()
    """,
    """
    CREATE TRIGGER example_changes AFTER INSERT OR UPDATE OR DELETE ON category_examples
    FOR EACH ROW EXECUTE FUNCTION notify_categories()
    """,
    """
    CREATE TRIGGER head_changes AFTER INSERT OR UPDATE OR DELETE ON category_heads
    FOR EACH ROW EXECUTE FUNCTION notify_categories()
    """,
    """
    CREATE TRIGGER example_removals AFTER DELETE ON category_examples
    FOR EACH ROW EXECUTE FUNCTION remove_category_heads()
    """,
    """
    CREATE TRIGGER feedback_removals AFTER DELETE ON feedback
    FOR EACH ROW EXECUTE FUNCTION remove_category_heads()
    """,
]


class Migration(migrations.Migration):
    dependencies = [("models", "0025_corrections")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=[
                "DROP TRIGGER feedback_removals ON feedback",
                "DROP TABLE category_heads, category_examples, categories",
                "DROP FUNCTION remove_category_heads, notify_categories",
            ],
        ),
    ]
