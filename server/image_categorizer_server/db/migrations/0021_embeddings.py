from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for images.  An index loads the codes, a tenth of the vectors: these are kept apart
# (TOAST), uncompressed, and are read only for the candidates of a search.  It follows the table by
# the number of the transaction that wrote a row: numbers of rows become visible in any order.
TABLES = [
    """
    CREATE TABLE image_embeddings (
        tenant_id text NOT NULL,
        image_id text NOT NULL,
        model_digest text NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        code bytea NOT NULL,
        vector bytea NOT NULL,
        written_by bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
        PRIMARY KEY (tenant_id, image_id, model_digest),
        UNIQUE (tenant_id, model_digest, number),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE
    )
    """,
    "ALTER TABLE image_embeddings ALTER COLUMN vector SET STORAGE EXTERNAL",
    "ALTER TABLE image_embeddings ALTER COLUMN code SET STORAGE PLAIN",
    "CREATE INDEX image_embeddings_new ON image_embeddings (tenant_id, model_digest, written_by, number)",
    "COMMENT ON COLUMN image_embeddings.code IS 'Bits that tell roughly how similar two vectors are'",
    "COMMENT ON COLUMN image_embeddings.vector IS 'Of length 1, in half precision, little-endian'",
    "COMMENT ON COLUMN image_embeddings.written_by IS 'The transaction'",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0020_picture_facts")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in TABLES],
            reverse_sql=["DROP TABLE image_embeddings"],
        ),
    ]
