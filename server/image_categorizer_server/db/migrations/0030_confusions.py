from tortoise import migrations
from tortoise.migrations import operations as ops

STATEMENTS = [
    "ALTER TABLE feedback ADD COLUMN answered text NOT NULL DEFAULT ''",
    "COMMENT ON COLUMN feedback.answered IS 'The first prediction of the result; empty if it has none, or is gone'",
    """
    UPDATE feedback f SET answered = r.predictions -> 0 ->> 'category' FROM image_results r
    WHERE r.tenant_id = f.tenant_id AND r.result_id = f.result_id
        AND r.predictions -> 0 ->> 'category' IS NOT NULL
    """,
    "ALTER TABLE batch_items ADD COLUMN blur text[] NOT NULL DEFAULT '{}'",
    "COMMENT ON COLUMN batch_items.blur IS 'What is blurred in what is kept of the image of a URI'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0029_uploads")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=[
                "ALTER TABLE batch_items DROP COLUMN blur",
                "ALTER TABLE feedback DROP COLUMN answered",
            ],
        ),
    ]
