from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for images.  The row of a part refers to its object before the object is there; its
# lease ends when nobody stores the object any more.
TABLES = [
    """
    CREATE TABLE image_uploads (
        tenant_id text NOT NULL,
        upload_id text NOT NULL,
        subject_key text NOT NULL,
        subject_id text NOT NULL,
        size_bytes int NOT NULL,
        sha256 text NOT NULL,
        filename text NOT NULL,
        tags text[] NOT NULL,
        keep_metadata boolean NOT NULL,
        received_bytes int NOT NULL,
        object_key text,
        image_id text,
        create_time timestamptz NOT NULL,
        expire_time timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, upload_id)
    )
    """,
    "CREATE INDEX image_uploads_unfinished ON image_uploads (tenant_id, subject_key, sha256) WHERE image_id IS NULL",
    "CREATE INDEX image_uploads_subject ON image_uploads (tenant_id, subject_key) WHERE subject_key <> ''",
    "CREATE INDEX image_uploads_object ON image_uploads (object_key) WHERE object_key IS NOT NULL",
    "CREATE INDEX image_uploads_expiry ON image_uploads (expire_time)",
    """
    CREATE TABLE image_upload_parts (
        tenant_id text NOT NULL,
        upload_id text NOT NULL,
        object_key text NOT NULL,
        offset_bytes int NOT NULL,
        size_bytes int NOT NULL,
        lease_until timestamptz,
        PRIMARY KEY (tenant_id, upload_id, object_key),
        FOREIGN KEY (tenant_id, upload_id) REFERENCES image_uploads ON DELETE CASCADE
    )
    """,
    "CREATE INDEX image_upload_parts_object ON image_upload_parts (object_key)",
    "COMMENT ON COLUMN image_uploads.subject_key IS 'Keyed hash of the subject; empty: the image is of nobody'",
    "COMMENT ON COLUMN image_uploads.sha256 IS 'Of the whole image, as announced; empty: it was not'",
    "COMMENT ON COLUMN image_uploads.object_key IS 'Where a client may put the whole image'",
    "COMMENT ON COLUMN image_uploads.image_id IS 'Null until the upload is complete'",
    "COMMENT ON COLUMN image_upload_parts.lease_until IS 'Null once the part is stored and counts'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0028_retention")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLES],
            reverse_sql=["DROP TABLE image_upload_parts", "DROP TABLE image_uploads"],
        ),
    ]
