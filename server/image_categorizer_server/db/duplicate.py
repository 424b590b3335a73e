"""Perceptual hashes of stored images."""

from collections.abc import Sequence

from image_categorizer_server.db.database import connected

FIRST = -(2**63), ""
"""The position before all hashes."""
# An index answers it.
PAGE = """
SELECT perceptual_hash, image_id FROM images
WHERE tenant_id = $1 AND perceptual_hash IS NOT NULL AND lease_until IS NULL
    AND (perceptual_hash, image_id) > ($2, $3)
ORDER BY perceptual_hash, image_id LIMIT $4
"""
NEAR = """
SELECT image_id FROM images
WHERE tenant_id = $1 AND perceptual_hash IS NOT NULL AND lease_until IS NULL AND image_id <> $2
    AND bit_count((perceptual_hash # $3)::bit(64)) <= $4
ORDER BY bit_count((perceptual_hash # $3)::bit(64)), image_id LIMIT $5
"""


async def list_hashes(
    tenant_id: str, after: tuple[int, str], limit: int
) -> Sequence[tuple[int, str]]:
    """Returns hashes, as signed numbers of 64 bits, with their images, in their order.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(PAGE, tenant_id, *after, limit)
    return [tuple(row.values()) for row in rows]  # type: ignore[misc]


async def find_near(
    tenant_id: str, image_id: str, perceptual_hash: int, max_distance_bits: int, limit: int
) -> list[str]:
    """Returns the images whose hash differs by few bits, the nearest first.

    Args:
        tenant_id: the tenant.
        image_id: the image that is not returned.
        perceptual_hash: its hash, as a signed number.
        max_distance_bits: by how many bits others may differ.
        limit: the maximum number of images.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        rows = await connection.fetch(
            NEAR, tenant_id, image_id, perceptual_hash, max_distance_bits, limit
        )
    return [str(row["image_id"]) for row in rows]
