from tortoise import migrations
from tortoise.migrations import operations as ops

TABLES = [
    """
    ALTER TABLE images
        ADD COLUMN perceptual_hash bigint,
        ADD COLUMN dominant_colours jsonb,
        ADD COLUMN brightness real,
        ADD COLUMN sharpness real,
        ADD COLUMN has_metadata boolean NOT NULL DEFAULT false
    """,
    "CREATE INDEX images_perceptual_hash ON images (tenant_id, perceptual_hash) WHERE perceptual_hash IS NOT NULL",
    """
    CREATE TABLE image_renditions (
        tenant_id text NOT NULL,
        image_id text NOT NULL,
        object_key text NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, image_id, object_key),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE
    )
    """,
    "CREATE INDEX image_renditions_object ON image_renditions (object_key)",
    "COMMENT ON TABLE image_renditions IS 'Pictures made of stored images, such as thumbnails'",
    "COMMENT ON COLUMN images.perceptual_hash IS 'Null: an earlier release has stored the image'",
    "COMMENT ON COLUMN images.dominant_colours IS 'Pairs of a name and a share, the largest first'",
    "COMMENT ON COLUMN images.has_metadata IS 'Whether the bytes are stored as they were sent'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0019_image_search")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLES],
            reverse_sql=[
                "DROP TABLE image_renditions",
                """
                ALTER TABLE images DROP COLUMN perceptual_hash, DROP COLUMN dominant_colours,
                    DROP COLUMN brightness, DROP COLUMN sharpness, DROP COLUMN has_metadata
                """,
            ],
        ),
    ]
