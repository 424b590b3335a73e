"""Values about tenants, and the tenant whose rows the current task sees.

Row-level security lets a connection see the rows of the scope that is bound to the task which takes
it: one tenant, every tenant, or, if nothing is bound, none.  Calls are bound to their caller's
tenant.  What serves all tenants says so by `all_tenants`: credentials, relays, sweepers, workers
that look for work, migrations, commands of the operator.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from image_categorizer_server.telemetry import name_tenant

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Names of new tenants.  They are parts of URLs, paths and keys."""
EVERY_TENANT = "*"
"""The scope of all tenants.  No tenant has this name."""
NO_TENANT = ""
"""The scope in which no row is seen."""

_scope: ContextVar[str] = ContextVar("tenant_scope", default=NO_TENANT)


class TenantState(Enum):
    """Whether the credentials of a tenant are accepted."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    """Credentials are refused, and batches wait."""
    DELETING = "DELETING"
    """Credentials are unknown, and everything that belongs to the tenant is being removed."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of keys, batches, webhooks and images."""

    tenant_id: str
    display_name: str
    state: TenantState
    create_time: datetime
    delete_time: datetime | None
    """When the removal began; None unless DELETING."""
    limits: Mapping[str, object] = field(default_factory=dict)
    """What overrides the limits of the settings, by the names of `domain.limit.Limits`."""


def current_scope() -> str:
    """Returns the tenant whose rows the current task sees, or one of the constants above."""
    return _scope.get()


def bind_tenant(tenant_id: str) -> None:
    """Lets the current task, and the tasks that it starts, see the rows of one tenant.

    Raises:
        ValueError: no tenant can have this name.
    """
    _scope.set(_checked(tenant_id))
    name_tenant(tenant_id)


def unbind_tenant() -> None:
    """Lets the current task see no row of any tenant."""
    _scope.set(NO_TENANT)
    name_tenant("")


@contextmanager
def one_tenant(tenant_id: str) -> Iterator[None]:
    """Lets the block see the rows of one tenant.

    Raises:
        ValueError: no tenant can have this name.
    """
    token = _scope.set(_checked(tenant_id))
    name_tenant(tenant_id)
    try:
        yield
    finally:
        _scope.reset(token)
        name_tenant("")


@contextmanager
def all_tenants() -> Iterator[None]:
    """Lets the block see the rows of all tenants: only for work that serves all of them."""
    token = _scope.set(EVERY_TENANT)
    try:
        yield
    finally:
        _scope.reset(token)


def _checked(tenant_id: str) -> str:
    if tenant_id in (NO_TENANT, EVERY_TENANT):
        raise ValueError(f"not a tenant: {tenant_id!r}")
    return tenant_id
