from tortoise import migrations
from tortoise.migrations import operations as ops

# Rows and not arrays: row-level security lets an index answer only what cannot leak values, which
# equality and order of texts, times and numbers are, but not what GIN indexes answer.
STATEMENTS = [
    """
    CREATE TABLE image_terms (
        tenant_id text NOT NULL,
        image_id text NOT NULL,
        term text NOT NULL,
        create_time timestamptz NOT NULL,
        confidence real,
        PRIMARY KEY (tenant_id, image_id, term),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE
    )
    """,
    "CREATE INDEX image_terms_search ON image_terms (tenant_id, term, create_time, image_id) INCLUDE (confidence)",
    # For ranges of confidence that few images are in.
    "CREATE INDEX image_terms_confidence ON image_terms (tenant_id, term, confidence) INCLUDE (create_time, image_id) WHERE confidence IS NOT NULL",
    "COMMENT ON TABLE image_terms IS 'What images are found by'",
    "COMMENT ON COLUMN image_terms.term IS 'tag:, name: a word of the file name, subject: a key; of the newest result category: (also without a name), model:'",
    "COMMENT ON COLUMN image_terms.create_time IS 'Of the image'",
    "COMMENT ON COLUMN image_terms.confidence IS 'Of the best prediction, beside each category'",
    # Terms do what it did; the key (tenant_id, subject_key, sha256) finds a subject, too.
    "DROP INDEX images_subject",
    # Also sums what a tenant stores.
    "DROP INDEX images_list",
    "CREATE INDEX images_list ON images (tenant_id, create_time, image_id) INCLUDE (size_bytes)",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0018_images")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=[
                "DROP TABLE image_terms",
                "DROP INDEX images_list",
                "CREATE INDEX images_list ON images (tenant_id, create_time, image_id)",
                "CREATE INDEX images_subject ON images (tenant_id, subject_key, create_time, image_id) WHERE subject_key <> ''",
            ],
        ),
    ]
