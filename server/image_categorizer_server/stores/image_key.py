"""The keys of images in the storage: they hold the tenant, and the SHA-256 of the content."""

import re

TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")


def image_key(tenant_id: str, sha256: str) -> str:
    """Returns the key of a tenant's image.

    Args:
        tenant_id: the tenant.
        sha256: of the content, 64 hexadecimal digits.

    Raises:
        ValueError: `tenant_id` has characters that no tenant's id has.
    """
    if not TENANT.fullmatch(tenant_id):
        raise ValueError(f"not a tenant id: {tenant_id!r}")
    # Two digits in between, so that no folder on disk holds a million files.
    return f"{tenant_id}/images/{sha256[:2]}/{sha256}"
