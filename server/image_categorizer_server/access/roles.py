"""Whether the role and the scopes of a caller permit an RPC, or to give rights to others."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from image_categorizer_server.domain.access import Principal, Role, Scope
from image_categorizer_server.errors import RoleInsufficient


@dataclass(frozen=True, slots=True)
class RpcAccess:
    """Who may call one RPC."""

    name: str
    """Name of the RPC, for error messages."""
    required_role: Role | None
    """The lowest role. None: no credentials are required."""
    required_scope: Scope | None = None
    """What credentials with scopes must list. None: any scope will do."""
    is_open_to_workers: bool = False
    """Whether the role WORKER may call it, too."""
    image_count: int = 0
    """How many images one call counts as; streams and batches count theirs by themselves."""

    @property
    def is_administration(self) -> bool:
        """Whether it manages things, which nobody does while limits cannot be checked."""
        return self.required_role is not None and self.required_role >= Role.OPERATOR


def authorize(principal: Principal, rpc: RpcAccess) -> None:
    """Passes a principal whose role and scopes permit the RPC.

    Raises:
        RoleInsufficient: the role is too low, or the credentials are limited to other scopes.
    """
    required = rpc.required_role
    if required is None:
        return
    scope = rpc.required_scope
    if principal.scopes and scope is not None and scope not in principal.scopes:
        raise RoleInsufficient(
            f"the credentials are limited to scopes that do not permit {rpc.name}; "
            f"it requires '{scope.value}'"
        )
    if principal.role is Role.WORKER and rpc.is_open_to_workers:
        return
    if principal.role < required:
        raise RoleInsufficient(
            f"the role '{principal.role.name.lower()}' may not call {rpc.name}; "
            f"it requires '{required.name.lower()}'"
        )


def authorize_scope(principal: Principal, scope: Scope, purpose: str) -> None:
    """Passes a principal that is not limited to other scopes.

    Args:
        principal: the caller.
        scope: what it needs, beside the scope of the RPC.
        purpose: what for, for the error message.

    Raises:
        RoleInsufficient: it is limited to others.
    """
    if principal.scopes and scope not in principal.scopes:
        raise RoleInsufficient(f"the credentials lack the scope '{scope.value}' {purpose}")


def authorize_role(principal: Principal, role: Role) -> None:
    """Passes a principal that may manage credentials of a role.

    Workers act for all tenants: only who manages tenants may give that.

    Raises:
        RoleInsufficient: the role is above that of the principal.
    """
    needed = Role.PLATFORM if role is Role.WORKER else role
    if principal.role < needed:
        raise RoleInsufficient(
            f"the role '{principal.role.name.lower()}' may not manage credentials of the role "
            f"'{role.name.lower()}'; that requires '{needed.name.lower()}'"
        )


def authorize_grant(principal: Principal, role: Role, scopes: AbstractSet[Scope]) -> None:
    """Passes a principal that has all rights that it gives to others.

    Args:
        principal: gives the rights.
        role: of the credentials.
        scopes: what the credentials are limited to; empty for everything that the role permits.

    Raises:
        RoleInsufficient: the role is above that of the principal, or the scopes are beyond its own.
    """
    authorize_role(principal, role)
    if principal.scopes and not (scopes and scopes <= principal.scopes):
        own = ", ".join(sorted(scope.value for scope in principal.scopes))
        raise RoleInsufficient(
            f"the caller is limited to scopes, and may only manage credentials limited to the same "
            f"or fewer: {own}"
        )
