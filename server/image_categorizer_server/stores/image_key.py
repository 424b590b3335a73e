"""Keys of stored images: the tenant and the SHA-256 of the content.

The same image stored twice is kept once.  Nothing that a user types becomes part of a path, and a
tenant's key never refers to another tenant's image.
"""

import re

TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")


def image_key(tenant_id: str, sha256: str, subject_key: str = "") -> str:
    """Returns the key of a tenant's image.

    Args:
        tenant_id: the tenant.
        sha256: of the content, 64 hexadecimal digits.
        subject_key: of the subject whose image it is; empty for none.  Subjects share no objects,
            so what is stored about one is removed by its folder.

    Raises:
        ValueError: `tenant_id` is malformed.
    """
    if not TENANT.fullmatch(tenant_id):
        raise ValueError(f"not a tenant ID: {tenant_id!r}")
    # The folder of two digits keeps a folder on disk from holding a million files.
    return f"{subject_folder(tenant_id, subject_key)}/{sha256[:2]}/{sha256}"


def subject_folder(tenant_id: str, subject_key: str) -> str:
    """Returns the folder of a subject's images; that of all others for the empty subject."""
    return f"{tenant_id}/subjects/{subject_key}" if subject_key else f"{tenant_id}/images"
