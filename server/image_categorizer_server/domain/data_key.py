"""Values about data keys, which encrypt the stored images of a tenant."""

from dataclasses import dataclass, field

WHOLE_TENANT = ""
"""The subject of a key that all data of a tenant about nobody shares."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key, encrypted by a key-encryption key."""

    data_key_id: str
    """32 hexadecimal digits."""
    tenant_id: str
    subject_id: str
    """The key of the subject that the data is about, or `WHOLE_TENANT`."""
    kek_id: str
    """Which key-encryption key unwraps it."""
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key that can be used."""

    data_key_id: str
    secret: bytes = field(repr=False)
    """32 bytes, for AES-256-GCM."""
