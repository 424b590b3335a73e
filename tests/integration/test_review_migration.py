"""Results and feedback from before reviews are in the queue, or reviewed, after the migration."""

from urllib.parse import urlsplit, urlunsplit

import pytest
from image_categorizer_server.db import review
from image_categorizer_server.db.database import connected, create_database, tortoise_config
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.review import ReviewFilter
from image_categorizer_server.settings.database import DatabaseSettings
from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate as run_migrations

from tests.support.database import connect_as_owner, open_for_all_tenants, owner_of

NAME = "unreviewed"
ROWS = [
    """
    INSERT INTO images (tenant_id, image_id, subject_key, subject_id, sha256, object_key,
        size_bytes, format, width_px, height_px, filename, tags, create_time)
    SELECT 't1', 'i-' || n, '', '', n, n, 1, 'JPEG', 1, 1, '', '{}', now()
    FROM generate_series(1, 6) n
    """,
    # The newest result of each counts.  Image 6 has none.
    """
    INSERT INTO image_results (tenant_id, result_id, image_id, predictions, model_name,
        model_version, model_digest, create_time)
    SELECT 't1', 'r-' || image || age, 'i-' || image, predictions::jsonb, 'm', 1, '',
        now() + age * interval '1 s'
    FROM (VALUES
        (1, 1, '[{"confidence": 0.5}, {"confidence": 0.5}]'),
        (1, 2, '[{"confidence": 0.9}, {"confidence": 0.05}]'),
        (2, 1, '[{"confidence": 0.7}]'), (3, 1, '[]'), (4, 1, '[]'), (5, 1, '[]')
    ) AS v (image, age, predictions)
    """,
    """
    INSERT INTO feedback (tenant_id, feedback_id, image_id, result_id, judgement, category,
        create_time, undo_time)
    VALUES ('t1', 'f-1', 'i-4', 'r-41', 'RIGHT', 'a', now(), NULL),
        ('t1', 'f-2', 'i-4', 'r-41', 'WRONG', 'b', now(), NULL),
        ('t1', 'f-3', 'i-5', 'r-51', 'RIGHT', 'a', now(), now())
    """,
]


@pytest.fixture
async def before(stores):
    """The address of a database as it was before."""
    other = str(urlunsplit(urlsplit(stores.postgres.url)._replace(path=f"/{NAME}")))
    connection = await connect_as_owner(stores.postgres.url)
    await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    await create_database(owner_of(stores.postgres.url), NAME, 10)
    config = dict(tortoise_config(owner_of(other), DatabaseSettings()))
    async with TortoiseContext():
        await run_migrations(config=config, target="models.0025_corrections")
    rows = await connect_as_owner(other)
    for statement in ROWS:
        await rows.execute(statement)
    await rows.close()
    yield other
    await connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
    await connection.close()


async def test_what_nobody_has_judged_is_queued_and_the_rest_is_reviewed(before):
    await migrate(before, DatabaseSettings(owner_url=owner_of(before)))
    async with open_for_all_tenants(before):
        places = await review.list_queue("t1", ReviewFilter(), (2.0, ""), 10)
        assert [(p.image_id, round(p.uncertainty, 6)) for p in places] == [
            ("i-5", 1),
            ("i-3", 1),
            ("i-2", 0.6),
            ("i-1", 0.15),
        ]
        async with connected() as connection:
            terms = await connection.fetch("SELECT image_id, term FROM image_terms ORDER BY 1, 2")
    assert [tuple(row.values()) for row in terms] == [
        ("i-1", "review:UNREVIEWED"),
        ("i-2", "review:UNREVIEWED"),
        ("i-3", "review:UNREVIEWED"),
        ("i-4", "review:CORRECTED"),
        ("i-4", "review:REVIEWED"),
        ("i-5", "review:UNREVIEWED"),
    ]
