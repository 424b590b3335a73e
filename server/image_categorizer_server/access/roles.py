"""Whether a role may call an RPC."""

from dataclasses import dataclass

from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.errors import RoleInsufficient


@dataclass(frozen=True, slots=True)
class RpcAccess:
    """Who may call one RPC."""

    name: str
    """Name of the RPC, for error messages."""
    required_role: Role | None
    """The lowest role. None: no credentials are required."""
    is_open_to_workers: bool = False
    """Whether the role WORKER may call it, too."""


def authorize(principal: Principal, rpc: RpcAccess) -> None:
    """Passes a principal whose role permits the RPC.

    Raises:
        RoleInsufficient: the role is too low.
    """
    required = rpc.required_role
    if required is None or (principal.role is Role.WORKER and rpc.is_open_to_workers):
        return
    if principal.role < required:
        raise RoleInsufficient(
            f"the role '{principal.role.name.lower()}' may not call {rpc.name}; "
            f"it requires '{required.name.lower()}'"
        )
