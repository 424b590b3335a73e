"""Services that are put together from one class for each of their subjects."""

from typing import cast

from google.protobuf.descriptor import ServiceDescriptor
from image_categorizer.v1 import admin_pb2, admin_pb2_grpc, image_pb2, image_pb2_grpc

ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
IMAGE = image_pb2.DESCRIPTOR.services_by_name["ImageService"]


def admin_servicer(*subjects: object) -> admin_pb2_grpc.AdminServiceServicer:
    """Returns the servicer of AdminService; see `assembled`."""
    whole = assembled(ADMIN, admin_pb2_grpc.AdminServiceServicer, *subjects)
    return cast("admin_pb2_grpc.AdminServiceServicer", whole)


def image_servicer(*subjects: object) -> image_pb2_grpc.ImageServiceServicer:
    """Returns the servicer of ImageService; see `assembled`."""
    whole = assembled(IMAGE, image_pb2_grpc.ImageServiceServicer, *subjects)
    return cast("image_pb2_grpc.ImageServiceServicer", whole)


def assembled(service: ServiceDescriptor, base: type, *subjects: object) -> object:
    """Returns a servicer with the methods that the classes of the subjects define.

    Args:
        service: the service.
        base: its generated servicer.
        subjects: each defines some of its methods.

    Raises:
        ValueError: an RPC has no implementation, or more than one.
    """
    methods: dict[str, object] = {}
    for name in (method.name for method in service.methods):
        owners = [subject for subject in subjects if name in vars(type(subject))]
        if len(owners) != 1:
            raise ValueError(f"{service.name}.{name} has {len(owners)} implementations")
        methods[name] = staticmethod(getattr(owners[0], name))
    return type(base.__name__, (base,), methods)()
