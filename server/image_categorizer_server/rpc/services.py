"""Our gRPC services, and who may call their RPCs, as the protos declare it."""

import importlib
import pkgutil

import image_categorizer.v1
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from image_categorizer.v1 import options_pb2

from image_categorizer_server.access.roles import RpcAccess
from image_categorizer_server.domain.access import Role, Scope


def our_services() -> list[ServiceDescriptor]:
    """Returns the services of the package `image_categorizer.v1`, by name."""
    names = [module.name for module in pkgutil.iter_modules(image_categorizer.v1.__path__)]
    found: list[ServiceDescriptor] = []
    for name in names:
        if name.endswith("_pb2"):
            module = importlib.import_module(f"image_categorizer.v1.{name}")
            found.extend(module.DESCRIPTOR.services_by_name.values())
    return sorted(found, key=lambda service: service.full_name)


def access_by_method(services: list[ServiceDescriptor]) -> dict[str, RpcAccess]:
    """Returns who may call each RPC, by its path: `/package.Service/Method`.

    Raises:
        ValueError: an RPC lacks the option `required_role` or `required_scope`.
    """
    return {
        f"/{service.full_name}/{method.name}": _access_of(method)
        for service in services
        for method in service.methods
    }


def _access_of(method: MethodDescriptor) -> RpcAccess:
    options = method.GetOptions().Extensions
    role = options[options_pb2.required_role]
    if role == options_pb2.ROLE_UNSPECIFIED:
        raise ValueError(f"{method.full_name} has no option (image_categorizer.v1.required_role)")
    if role == options_pb2.PUBLIC:
        return RpcAccess(name=method.name, required_role=None)
    scope = options[options_pb2.required_scope]
    if scope == options_pb2.SCOPE_UNSPECIFIED:
        raise ValueError(f"{method.full_name} has no option (image_categorizer.v1.required_scope)")
    return RpcAccess(
        name=method.name,
        required_role=Role[options_pb2.Role.Name(role)],
        required_scope=(
            None if scope == options_pb2.ANY_SCOPE else Scope[options_pb2.Scope.Name(scope)]
        ),
        is_open_to_workers=options[options_pb2.open_to_workers],
        image_count=options[options_pb2.image_count],
    )
