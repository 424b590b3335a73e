"""Whether the role and the scopes of a caller permit an RPC."""

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
    """What credentials with scopes must list. None only if no credentials are required."""
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
    if principal.scopes and rpc.required_scope not in principal.scopes:
        scope = rpc.required_scope.value if rpc.required_scope else "none"
        raise RoleInsufficient(
            f"the credentials are limited to scopes that do not permit {rpc.name}; "
            f"it requires '{scope}'"
        )
    if principal.role is Role.WORKER and rpc.is_open_to_workers:
        return
    if principal.role < required:
        raise RoleInsufficient(
            f"the role '{principal.role.name.lower()}' may not call {rpc.name}; "
            f"it requires '{required.name.lower()}'"
        )
