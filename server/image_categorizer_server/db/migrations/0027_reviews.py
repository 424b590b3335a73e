from tortoise import migrations
from tortoise.migrations import operations as ops

# Plain SQL, as for images.  The queue has a row for each image with a result that nobody has judged:
# a reviewer takes its most uncertain rows away, so a list of all images would be read past those.
STATEMENTS = [
    """
    CREATE TABLE review_queue (
        tenant_id text NOT NULL,
        image_id text NOT NULL,
        uncertainty real NOT NULL,
        disagreement real,
        create_time timestamptz NOT NULL,
        skip_time timestamptz,
        PRIMARY KEY (tenant_id, image_id),
        FOREIGN KEY (tenant_id, image_id) REFERENCES images ON DELETE CASCADE
    )
    """,
    "CREATE INDEX review_queue_uncertainty ON review_queue (tenant_id, uncertainty, image_id) WHERE skip_time IS NULL",
    "CREATE INDEX review_queue_disagreement ON review_queue (tenant_id, disagreement, image_id) WHERE skip_time IS NULL AND disagreement IS NOT NULL",
    "CREATE INDEX review_queue_uncompared ON review_queue (tenant_id, uncertainty, image_id) WHERE skip_time IS NULL AND disagreement IS NULL",
    "CREATE INDEX review_queue_skipped ON review_queue (tenant_id, uncertainty, image_id) WHERE skip_time IS NOT NULL",
    # For few images of a short time.
    "CREATE INDEX review_queue_time ON review_queue (tenant_id, create_time)",
    "COMMENT ON TABLE review_queue IS 'Images with a result that nobody has judged'",
    "COMMENT ON COLUMN review_queue.uncertainty IS '1 minus the distance of the two best confidences of the newest result'",
    "COMMENT ON COLUMN review_queue.disagreement IS 'The share of the most similar images that show another category; null: not compared yet'",
    "COMMENT ON COLUMN review_queue.create_time IS 'Of the image'",
    "COMMENT ON COLUMN review_queue.skip_time IS 'When it was put aside'",
    "ALTER TABLE feedback ADD COLUMN reviewer text NOT NULL DEFAULT ''",
    "CREATE INDEX feedback_of_results ON feedback (tenant_id, result_id)",
    "COMMENT ON COLUMN feedback.reviewer IS 'Who said it; empty: an earlier release kept it'",
    "COMMENT ON COLUMN image_terms.term IS 'tag:, name: a word of the file name, subject: a key; of the newest result category: (also without a name), model:; review: the state of the review'",
    # Answers all that a search for similar hashes reads.
    "DROP INDEX images_perceptual_hash",
    "CREATE INDEX images_perceptual_hash ON images (tenant_id, perceptual_hash, image_id) INCLUDE (lease_until) WHERE perceptual_hash IS NOT NULL",
    """
    INSERT INTO image_terms (tenant_id, image_id, term, create_time)
    SELECT i.tenant_id, i.image_id, 'review:' || s.state, i.create_time
    FROM (SELECT DISTINCT ON (tenant_id, image_id) * FROM feedback WHERE undo_time IS NULL
        ORDER BY tenant_id, image_id, number DESC) f
    JOIN images i ON i.tenant_id = f.tenant_id AND i.image_id = f.image_id
    CROSS JOIN LATERAL (VALUES ('REVIEWED'),
        (CASE f.judgement WHEN 'WRONG' THEN 'CORRECTED' ELSE f.judgement END)) AS s (state)
    """,
    """
    WITH newest AS (
        SELECT DISTINCT ON (tenant_id, image_id) tenant_id, image_id,
            (predictions -> 0 ->> 'confidence')::numeric AS first,
            (predictions -> 1 ->> 'confidence')::numeric AS second
        FROM image_results ORDER BY tenant_id, image_id, create_time DESC, result_id DESC),
    queued AS (
        INSERT INTO review_queue (tenant_id, image_id, uncertainty, create_time)
        SELECT i.tenant_id, i.image_id,
            round(least(greatest(coalesce(
                1 - n.first + coalesce(n.second, least(n.first, 1 - n.first)), 1), 0), 1), 6),
            i.create_time
        FROM newest n JOIN images i ON i.tenant_id = n.tenant_id AND i.image_id = n.image_id
        WHERE NOT EXISTS (SELECT FROM feedback f WHERE f.tenant_id = n.tenant_id
            AND f.image_id = n.image_id AND f.undo_time IS NULL)
        RETURNING tenant_id, image_id, create_time)
    INSERT INTO image_terms (tenant_id, image_id, term, create_time)
    SELECT tenant_id, image_id, 'review:UNREVIEWED', create_time FROM queued
    """,
]


class Migration(migrations.Migration):
    dependencies = [("models", "0026_categories")]

    operations = [
        ops.RunSQL(
            [statement.strip() for statement in STATEMENTS],
            reverse_sql=[
                "DELETE FROM image_terms WHERE split_part(term, ':', 1) = 'review'",
                "DROP TABLE review_queue",
                "DROP INDEX feedback_of_results",
                "ALTER TABLE feedback DROP COLUMN reviewer",
                "DROP INDEX images_perceptual_hash",
                "CREATE INDEX images_perceptual_hash ON images (tenant_id, perceptual_hash) WHERE perceptual_hash IS NOT NULL",
            ],
        ),
    ]
