from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for batches.  An image that is being stored has a lease: its row refers to the
# object before the object is there, so that nothing removes it meanwhile.
TABLES = [
    """
    CREATE TABLE images (
        tenant_id text NOT NULL,
        image_id text NOT NULL,
        subject_key text NOT NULL,
        subject_id text NOT NULL,
        sha256 text NOT NULL,
        object_key text NOT NULL,
        size_bytes int NOT NULL,
        format text NOT NULL,
        width_px int NOT NULL,
        height_px int NOT NULL,
        filename text NOT NULL,
        tags text[] NOT NULL,
        create_time timestamptz NOT NULL,
        lease_until timestamptz,
        PRIMARY KEY (tenant_id, image_id),
        UNIQUE (tenant_id, subject_key, sha256)
    )
    """,
    "CREATE INDEX images_list ON images (tenant_id, create_time, image_id)",
    "CREATE INDEX images_subject ON images (tenant_id, subject_key, create_time, image_id) WHERE subject_key <> ''",
    "CREATE INDEX images_object ON images (object_key)",
    "CREATE INDEX images_lease ON images (lease_until) WHERE lease_until IS NOT NULL",
    """
    CREATE TABLE image_results (
        tenant_id text NOT NULL,
        result_id text NOT NULL,
        image_id text NOT NULL,
        predictions jsonb NOT NULL,
        model_name text NOT NULL,
        model_version int NOT NULL,
        model_digest text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, result_id),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE
    )
    """,
    "CREATE INDEX image_results_image ON image_results (tenant_id, image_id, create_time)",
    "COMMENT ON COLUMN images.subject_key IS 'Keyed hash of the subject; empty: the image is of nobody'",
    "COMMENT ON COLUMN images.sha256 IS 'Of the bytes that were sent; what is stored may differ'",
    "COMMENT ON COLUMN images.lease_until IS 'Null once the image is stored'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0017_data_keys")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLES],
            reverse_sql=["DROP TABLE image_results", "DROP TABLE images"],
        ),
    ]
