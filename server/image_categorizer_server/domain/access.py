"""Values about access: roles, principals, API keys."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

DEFAULT_TENANT = "default"


class Role(IntEnum):
    """What a caller may do.  Each role may do what lower roles may, except WORKER."""

    WORKER = 0
    """Classifies the images of batches, for any tenant, and does nothing else."""
    VIEWER = 1
    CLASSIFIER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: one API key of one tenant."""

    key_id: str
    tenant_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its secret."""

    key_id: str
    tenant_id: str
    name: str
    role: Role
    prefix: str
    """The first characters of the key, to recognize it by."""
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
