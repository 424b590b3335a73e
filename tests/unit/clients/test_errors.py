"""The SDK has one class for every reason that a gRPC call can end with."""

from image_categorizer import errors
from image_categorizer.v1 import errors_pb2, options_pb2


def tree(root):
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_every_reason_has_one_class():
    reasons = [kind.reason for kind in tree(errors.CategorizerError)]
    assert len(reasons) == len(set(reasons))
    # `Unauthenticated` stands for the status code where no reason was sent.
    assert set(reasons) - {errors.Unauthenticated.reason} == {
        value.name
        for value in errors_pb2.ErrorReason.DESCRIPTOR.values
        if value.number and not value.GetOptions().Extensions[options_pb2.error].from_gateway
    }
