"""Plain values about access: roles, principals, API keys."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

DEFAULT_TENANT = "default"


class Role(IntEnum):
    """What a caller may do; each role but WORKER may do all that the ones before it may."""

    WORKER = 0
    """Classifies the images of batches, for the tenants whose they are, and does nothing else."""
    VIEWER = 1
    CLASSIFIER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: one API key of one tenant."""

    key_id: str
    tenant_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it is kept: the secret itself is not."""

    key_id: str
    tenant_id: str
    name: str
    role: Role
    prefix: str
    """The key's first characters, to recognise it by."""
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
