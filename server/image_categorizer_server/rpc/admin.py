"""AdminService, put together from one class for each of its subjects."""

from typing import cast

from image_categorizer.v1 import admin_pb2, admin_pb2_grpc

SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


def admin_servicer(*subjects: object) -> admin_pb2_grpc.AdminServiceServicer:
    """Returns a servicer with the methods that the classes of the subjects define.

    Raises:
        ValueError: an RPC has no implementation, or more than one.
    """
    methods: dict[str, object] = {}
    for name in (method.name for method in SERVICE.methods):
        owners = [subject for subject in subjects if name in vars(type(subject))]
        if len(owners) != 1:
            raise ValueError(f"AdminService.{name} has {len(owners)} implementations")
        methods[name] = staticmethod(getattr(owners[0], name))
    whole = type("AdminServicer", (admin_pb2_grpc.AdminServiceServicer,), methods)()
    return cast("admin_pb2_grpc.AdminServiceServicer", whole)
