"""What the protos declare about RPCs, and what the server reads from it."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from image_categorizer_server.domain.access import Role
from image_categorizer_server.rpc.services import access_by_method, our_services

PACKAGE = "image_categorizer.v1"


def test_all_services_of_the_package_are_found():
    assert [service.name for service in our_services()] == [
        "AdminService",
        "BatchService",
        "ClassifyService",
        "HealthService",
        "MetadataService",
    ]


def test_every_rpc_states_a_role():
    access = access_by_method(our_services())
    assert access[f"/{PACKAGE}.ClassifyService/Classify"].required_role is Role.CLASSIFIER
    assert access[f"/{PACKAGE}.BatchService/WatchBatch"].required_role is Role.VIEWER
    assert access[f"/{PACKAGE}.AdminService/CreateWebhook"].required_role is Role.OPERATOR
    assert access[f"/{PACKAGE}.MetadataService/LoadModel"].required_role is Role.ADMIN


def test_only_probes_and_sign_in_are_public_and_few_rpcs_are_open_to_workers():
    access = access_by_method(our_services())
    public = {rpc.name for rpc in access.values() if rpc.required_role is None}
    workers = {rpc.name for rpc in access.values() if rpc.is_open_to_workers}
    sign_in = {"StartSignIn", "FinishSignIn", "SignOut"}
    assert public == {"GetLiveness", "GetReadiness"} | sign_in
    assert workers == {"ClassifyStream", "GetServerInfo", "GetCaller"}


def test_an_rpc_without_a_role_stops_the_start():
    file = descriptor_pb2.FileDescriptorProto(name="new.proto", package=PACKAGE)
    file.message_type.add(name="Empty")
    empty = f".{PACKAGE}.Empty"
    service = file.service.add(name="NewService")
    service.method.add(name="Do", input_type=empty, output_type=empty)
    pool = descriptor_pool.DescriptorPool()
    added = pool.AddSerializedFile(file.SerializeToString())
    with pytest.raises(ValueError, match=r"NewService.Do has no option \(.*required_role\)"):
        access_by_method([added.services_by_name["NewService"]])
