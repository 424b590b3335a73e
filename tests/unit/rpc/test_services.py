"""What the protos declare about RPCs, and what the server reads from it."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from image_categorizer.v1 import options_pb2
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.rpc.services import access_by_method, our_services

PACKAGE = "image_categorizer.v1"


def test_all_services_of_the_package_are_found():
    assert [service.name for service in our_services()] == [
        "AdminService",
        "BatchService",
        "CategoryService",
        "ClassifyService",
        "EmbeddingService",
        "FeedbackService",
        "HealthService",
        "ImageService",
        "MetadataService",
        "PageService",
        "ReviewService",
    ]


def test_every_rpc_states_a_role():
    access = access_by_method(our_services())
    assert access[f"/{PACKAGE}.ClassifyService/Classify"].required_role is Role.CLASSIFIER
    assert access[f"/{PACKAGE}.BatchService/WatchBatch"].required_role is Role.VIEWER
    assert access[f"/{PACKAGE}.AdminService/CreateWebhook"].required_role is Role.OPERATOR
    assert access[f"/{PACKAGE}.MetadataService/LoadModel"].required_role is Role.ADMIN


def test_few_rpcs_are_public_and_few_are_open_to_workers():
    access = access_by_method(our_services())
    public = {rpc.name for rpc in access.values() if rpc.required_role is None}
    workers = {rpc.name for rpc in access.values() if rpc.is_open_to_workers}
    sign_in = {"StartSignIn", "FinishSignIn", "SignOut"}
    assert public == (
        {"GetLiveness", "GetReadiness", "GetPage", "GetDashboard", "ListReceiptKeys"} | sign_in
    )
    assert workers == {"ClassifyStream", "GetServerInfo", "GetCaller"}


def service_of(**options):
    """Returns the descriptor of a service with one RPC, which has these options."""
    file = descriptor_pb2.FileDescriptorProto(name="new.proto", package=PACKAGE)
    file.message_type.add(name="Empty")
    empty = f".{PACKAGE}.Empty"
    service = file.service.add(name="NewService")
    method = service.method.add(name="Do", input_type=empty, output_type=empty)
    for name, value in options.items():
        method.options.Extensions[getattr(options_pb2, name)] = value
    pool = descriptor_pool.DescriptorPool()
    return pool.AddSerializedFile(file.SerializeToString()).services_by_name["NewService"]


def test_an_rpc_without_a_role_stops_the_start():
    with pytest.raises(ValueError, match=r"NewService.Do has no option \(.*required_role\)"):
        access_by_method([service_of()])


@pytest.mark.parametrize("role", ["VIEWER", "PLATFORM"])
def test_an_rpc_without_a_scope_stops_the_start(role):
    service = service_of(required_role=options_pb2.Role.Value(role))
    with pytest.raises(ValueError, match=r"NewService.Do has no option \(.*required_scope\)"):
        access_by_method([service])


def test_a_public_rpc_needs_no_scope():
    (access,) = access_by_method([service_of(required_role=options_pb2.PUBLIC)]).values()
    assert (access.required_role, access.required_scope) == (None, None)


def test_every_scope_of_the_proto_is_one_here_under_the_name_that_keys_list():
    others = {"SCOPE_UNSPECIFIED", "ANY_SCOPE"}
    names = [name for name, _ in options_pb2.Scope.items() if name not in others]
    assert names == [scope.name for scope in Scope]
    assert all(scope.value.replace(":", "_").upper() == scope.name for scope in Scope)


def test_every_role_of_the_proto_is_one_here_in_the_same_order():
    names = [name for name, number in options_pb2.Role.items() if number > options_pb2.PUBLIC]
    assert ["WORKER", *names] == [role.name for role in sorted(Role)]


def test_what_clients_ask_first_requires_no_scope_of_its_own():
    access = access_by_method(our_services())
    any_scope = {
        rpc.name for rpc in access.values() if rpc.required_role and not rpc.required_scope
    }
    assert any_scope == {"GetServerInfo", "GetCaller"}
