"""The error tree, its way over the wire, and its twin in the SDK."""

import grpc
import image_categorizer
import image_categorizer.errors as sdk
import image_categorizer_server.errors as ours
import pytest
from google.rpc import code_pb2, error_details_pb2
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import errors_pb2, options_pb2
from image_categorizer_server.rpc.status import MAX_VIOLATIONS, status_of


def tree(root):
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


OURS = list(tree(ours.CategorizerError))
DECLARED = {
    value.name: value.GetOptions().Extensions[options_pb2.error]
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values
    if value.number
}


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_has_the_status_of_its_reason_and_a_place_in_the_tree_of_the_docstring(kind):
    assert code_pb2.Code.Name(DECLARED[kind.reason].code) == kind.status
    assert kind.status in grpc.StatusCode.__members__
    assert kind.__name__ in ours.__doc__
    assert kind.reason in ours.__doc__ or kind in (ours.NotFound, ours.Unavailable)


def test_every_reason_has_an_error_here_or_is_the_gateway_s():
    from_gateway = {name for name, status in DECLARED.items() if status.from_gateway}
    assert set(DECLARED) - from_gateway == {kind.reason for kind in OURS}
    assert from_gateway == {"ROUTE_NOT_FOUND", "METHOD_NOT_ALLOWED"}


def test_every_reason_states_its_http_status_as_the_gateway_converts_it():
    converted = {
        "INVALID_ARGUMENT": 400,
        "FAILED_PRECONDITION": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "ABORTED": 409,
        "RESOURCE_EXHAUSTED": 429,
        "INTERNAL": 500,
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
    }
    for name, status in DECLARED.items():
        code = code_pb2.Code.Name(status.code)
        assert status.http_status[0] == (405 if code == "UNIMPLEMENTED" else converted[code]), name


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_the_sdk_has_a_class_of_the_same_name_and_parents(kind):
    twin = getattr(sdk, kind.__name__)
    assert [c.__name__ for c in twin.__mro__] == [c.__name__ for c in kind.__mro__]
    assert twin.__name__ in sdk.__doc__


def test_the_public_face_of_the_sdk_is_complete_and_sorted():
    names = image_categorizer.__all__
    assert names == sorted(names)
    assert {twin.__name__ for twin in tree(sdk.CategorizerError)} <= set(names)


class Failed(grpc.RpcError, grpc.Call):
    """What a client meets, made of a status as the server sends it."""

    def __init__(self, status, **headers):
        self._status = status
        self._headers = headers

    def code(self):
        return next(c for c in grpc.StatusCode if c.value[0] == self._status.code)

    def details(self):
        return self._status.message

    def trailing_metadata(self):
        return (
            ("grpc-status-details-bin", self._status.SerializeToString()),
            *self._headers.items(),
        )

    def initial_metadata(self):
        return ()

    def is_active(self):
        return False

    def time_remaining(self):
        return None

    def cancel(self):
        return False

    def add_callback(self, callback):
        return False


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_the_class_of_the_same_name(kind):
    status = status_of(kind("a message"))
    arrived = from_rpc_error(Failed(status, **{"x-request-id": "r1"}))
    leaf = kind.reason not in ("UNAVAILABLE", "NOT_FOUND", "CREDENTIALS_INVALID")
    expected = kind.__name__ if leaf else type(arrived).__name__
    assert type(arrived).__name__ == expected
    assert isinstance(arrived, getattr(sdk, kind.__name__))
    assert (arrived.message, arrived.status, arrived.request_id) == ("a message", kind.status, "r1")


def test_details_arrive():
    wrong = ours.InvalidRequest.of([("top_k", "must be at least 1"), ("model", "too long")])
    arrived = from_rpc_error(Failed(status_of(wrong)))
    assert arrived.violations == wrong.violations
    busy = from_rpc_error(Failed(status_of(ours.Overloaded("busy", retry_after_s=1.5))))
    assert busy.retry_after_s == 1.5


def test_long_texts_are_cut_so_that_headers_hold_them():
    wrong = ours.InvalidRequest.of([(f"field{i}", "x" * 5000) for i in range(500)])
    status = status_of(wrong)
    assert len(status.SerializeToString()) < 7000
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert len(bad.field_violations) == MAX_VIOLATIONS


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, sdk.Unavailable),
        (grpc.StatusCode.CANCELLED, sdk.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, sdk.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, sdk.ImageTooLarge),
        (grpc.StatusCode.UNKNOWN, sdk.CategorizerError),
    ],
)
def test_errors_without_details_follow_from_their_status(code, kind):
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "text")
    assert type(from_rpc_error(error)) is kind
