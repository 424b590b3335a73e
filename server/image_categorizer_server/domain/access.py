"""Values about access: roles, scopes, principals."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum

DEFAULT_TENANT = "default"


class Role(IntEnum):
    """What a caller may do.  Each role may do what lower roles may, except WORKER."""

    WORKER = 0
    """Classifies the images of batches, for any tenant, and does nothing else."""
    VIEWER = 1
    CLASSIFIER = 2
    OPERATOR = 3
    ADMIN = 4
    PLATFORM = 5
    """Manages tenants."""


ROLES = {role.name.lower(): role for role in Role}
"""The roles by their names, as callers write them."""


class Scope(Enum):
    """A part of the API, to which credentials may be limited."""

    CLASSIFY = "classify"
    BATCHES_READ = "batches:read"
    BATCHES_WRITE = "batches:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"
    USAGE_READ = "usage:read"
    TENANTS_READ = "tenants:read"
    TENANTS_WRITE = "tenants:write"
    IMAGES_READ = "images:read"
    IMAGES_WRITE = "images:write"
    SUBJECTS_READ = "subjects:read"
    SUBJECTS_WRITE = "subjects:write"
    CATEGORIES_READ = "categories:read"
    CATEGORIES_WRITE = "categories:write"
    RETENTION_READ = "retention:read"
    RETENTION_WRITE = "retention:write"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: one API key, or one user, of one tenant."""

    actor_id: str
    """The id of the API key; for a user, the name that the identity provider vouches for."""
    tenant_id: str
    role: Role
    scopes: frozenset[Scope] = frozenset()
    """What the credentials are limited to.  Empty: everything that the role permits."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a person who has signed in, without its secret."""

    principal: Principal
    use_time: datetime
    """When it was used last, to the minute."""
    expire_time: datetime
    end_time: datetime | None
    """When the person signed out."""
