"""Every RPC, every caller, and what the protos say about each pair."""

from collections.abc import Iterator
from dataclasses import dataclass

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from image_categorizer.v1 import options_pb2
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.rpc.services import our_services

METHODS: list[MethodDescriptor] = [
    method for service in our_services() for method in service.methods
]


@dataclass(frozen=True)
class Caller:
    """Somebody who calls, and what the answer to a call without rights is."""

    name: str
    role: Role | None = None
    """None: the credentials are missing or not valid."""
    scopes: frozenset[Scope] = frozenset()
    tenant_id: str = "default"
    reason: str = "CREDENTIALS_INVALID"


CALLERS = [
    Caller("none", reason="CREDENTIALS_MISSING"),
    *(Caller(name) for name in ("malformed", "basic", "unknown", "expired", "revoked")),
    *(Caller(role.name.lower(), role) for role in Role),
    *(Caller(scope.value, Role.PLATFORM, frozenset({scope})) for scope in Scope),
    *(Caller(f"viewer {scope.value}", Role.VIEWER, frozenset({scope})) for scope in Scope),
    Caller("other tenant's admin", Role.ADMIN, tenant_id="other"),
]


def refusal(method: MethodDescriptor, caller: Caller) -> str:
    """Returns why a call is refused; empty if it is permitted.

    Reads the options of the proto by itself: nothing here is shared with the server.
    """
    options = method.GetOptions().Extensions
    required = options_pb2.Role.Name(options[options_pb2.required_role])
    if required == "PUBLIC":
        return ""
    if caller.role is None:
        return caller.reason
    scope = options_pb2.Scope.Name(options[options_pb2.required_scope])
    own_scopes = {own.name for own in caller.scopes}
    if own_scopes and scope not in own_scopes | {"ANY_SCOPE"}:
        return "ROLE_INSUFFICIENT"
    if caller.role is Role.WORKER:
        return "" if options[options_pb2.open_to_workers] else "ROLE_INSUFFICIENT"
    order = ["VIEWER", "CLASSIFIER", "OPERATOR", "ADMIN", "PLATFORM"]
    is_enough = order.index(caller.role.name) >= order.index(required)
    return "" if is_enough else "ROLE_INSUFFICIENT"


def rest(method: MethodDescriptor) -> tuple[str, str] | None:
    """Returns the HTTP method and the path of an RPC; None if it has none."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return (verb.upper(), getattr(rule, verb)) if verb else None


def variables(method: MethodDescriptor) -> Iterator[str]:
    """Yields the names of the variables in the REST path."""
    for part in (rest(method) or ("", ""))[1].split("{")[1:]:
        yield part.split("}")[0]
