"""Renditions: pictures made of stored images, such as thumbnails.

    begin ─▶ the object goes to the storage ─▶ end

A row refers to its object before the object is there, so `removal` spares it.  The image may be
deleted meanwhile: `end` then has the object removed.  A row whose object is missing does no harm:
the rendition is made again.
"""

from image_categorizer_server import clock
from image_categorizer_server.db import removal
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.db.locks import lock_tenant_images

INSERT = """
INSERT INTO image_renditions (tenant_id, image_id, object_key, create_time)
SELECT $1, $2, $3, $4
WHERE EXISTS (SELECT FROM images WHERE tenant_id = $1 AND image_id = $2 FOR KEY SHARE)
    AND (SELECT count(*) FROM image_renditions
         WHERE tenant_id = $1 AND image_id = $2 AND object_key <> $3) < $5
ON CONFLICT (tenant_id, image_id, object_key) DO UPDATE SET create_time = excluded.create_time
RETURNING true
"""
EXISTS = """
SELECT EXISTS (SELECT FROM image_renditions
    WHERE tenant_id = $1 AND image_id = $2 AND object_key = $3)
"""


async def begin(tenant_id: str, image_id: str, object_key: str, limit: int) -> bool:
    """Writes the row of a rendition that is about to be stored.

    Args:
        tenant_id: the tenant.
        image_id: the image.
        object_key: where the rendition will be.
        limit: how many renditions of an image are stored.

    Returns:
        False if it must not be stored: its object is being removed, the image is gone, or it has
        enough renditions.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with transaction() as connection:
        await lock_tenant_images(connection, tenant_id)
        if object_key in await removal.find_removing(connection, tenant_id):
            return False
        now = clock.now()
        return bool(await connection.fetchval(INSERT, tenant_id, image_id, object_key, now, limit))


async def end(tenant_id: str, image_id: str, object_key: str) -> None:
    """Has a rendition that is stored removed again if its image was deleted meanwhile.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        is_kept = await connection.fetchval(EXISTS, tenant_id, image_id, object_key)
    if not is_kept:
        await removal.add_unreferenced(tenant_id, "", [object_key])
