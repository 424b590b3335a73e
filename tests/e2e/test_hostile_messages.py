"""Messages that are large, deep or doubled: a clear code, little memory, no collateral."""

import json

import grpc
import pytest
from image_categorizer import InvalidRequest
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc, metadata_pb2, metadata_pb2_grpc

from tests.e2e.test_refusals import B64, refusal
from tests.support import raw_http
from tests.support.healthy_caller import healthy_caller

KIB, MIB = 2**10, 2**20
MAX_GROWTH_BYTES = 50 * MIB
JSON = {"content-type": "application/json"}
# Paths whose JSON is read by Envoy, and by the server.
PATHS = ["/v1/webhooks", "/v1/classify", "/v1/batch"]


@pytest.fixture(scope="module")
def channel(up):
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        yield channel


@pytest.fixture(autouse=True)
def _others_are_answered(up):
    """Checks that somebody else notices nothing, and that the processes do not grow."""
    processes = [up.process_of(name) for name in ("gateway", "server")]
    before = [process.memory_info().rss for process in processes]
    with healthy_caller(up.port) as outcomes:
        yield
    assert set(outcomes) == {"OK"}
    grown = [
        process.memory_info().rss - was for process, was in zip(processes, before, strict=True)
    ]
    assert max(grown) <= MAX_GROWTH_BYTES


def models(channel, key, metadata):
    """Returns the status of a call with metadata."""
    stub = metadata_pb2_grpc.MetadataServiceStub(channel)
    headers = [("authorization", f"Bearer {key}"), *metadata]
    try:
        stub.ListModels(metadata_pb2.ListModelsRequest(), metadata=headers, timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("size_kib", [7, 9, 15, 17])
def test_metadata_below_the_limit_is_accepted(channel, admin_key, size_kib):
    found = models(channel, admin_key, [("x-any", "a" * size_kib * KIB)])
    assert found is grpc.StatusCode.OK


FLOODS = {
    "40 KB": [("x-any", "a" * 40 * KIB)],
    "150 keys": [(f"x-{number}", "a") for number in range(150)],
    "1,000 keys": [(f"x-{number}", "a") for number in range(1000)],
    "one key, 1,000 times": [("x-any", "a")] * 1000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_metadata_above_the_limit_is_refused_in_words(channel, admin_key, name):
    stub = metadata_pb2_grpc.MetadataServiceStub(channel)
    headers = [("authorization", f"Bearer {admin_key}"), *FLOODS[name]]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListModels(metadata_pb2.ListModelsRequest(), metadata=headers, timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert "send fewer or shorter ones" in error.message
    assert error.is_final
    assert models(channel, admin_key, []) is grpc.StatusCode.OK


@pytest.mark.parametrize("name", FLOODS)
def test_headers_above_the_limit_are_refused_over_rest_and_grpc_web(up, name):
    sent = [(key.encode(), value.encode()) for key, value in FLOODS[name]]
    status, headers, body = raw_http.http1(up.port, b"/v1/models", sent)
    assert (status, headers["content-type"]) == (431, "application/json")
    assert "send fewer or shorter ones" in json.loads(body)["message"]
    web = (b"content-type", b"application/grpc-web+proto")
    path = b"/image_categorizer.v1.MetadataService/ListModels"
    status, headers, _ = raw_http.http1(up.port, path, [web, *sent], raw_http.EMPTY_MESSAGE)
    assert (status, headers["grpc-status"]) == (200, "8")


def test_a_flood_of_headers_beyond_every_limit_costs_its_sender_the_connection(up, admin_key):
    """Envoy resets such a call, or closes its connection, before any filter sees it."""
    unshared = [("grpc.use_local_subchannel_pool", 1)]
    for metadata in ([("x-any", "a" * MIB)], [(f"x-{number}", "a") for number in range(5000)]):
        with grpc.insecure_channel(f"127.0.0.1:{up.port}", options=unshared) as own:
            assert models(own, admin_key, metadata) in (
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.UNAVAILABLE,
            )


def test_binary_metadata_of_any_content_is_ignored(channel, admin_key):
    for value in (b"\xff" * 100, b"", b"====", bytes(range(256))):
        assert models(channel, admin_key, [("x-any-bin", value)]) is grpc.StatusCode.OK


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "value",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[" * 100_000,
    ],
    ids=["lists", "objects", "unfinished"],
)
def test_deep_json_is_refused(http, path, value):
    for body in (value, f'{{"options": {value}}}', f'{{"x": {value}}}'):
        answer = http.post(path, content=body, headers=JSON)
        assert refusal(answer)[:2] == (400, "FIELD_INVALID")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", '"NaN"'])
def test_a_threshold_that_is_no_number_is_refused(http, number):
    options = f'{{"confidence_threshold": {number}}}'
    items = f'[{{"image": "{B64}"}}]'
    for path, own in (("/v1/classify", f'"image": "{B64}"'), ("/v1/batch", f'"items": {items}')):
        answer = http.post(path, content=f'{{{own}, "options": {options}}}', headers=JSON)
        assert refusal(answer)[:2] == (400, "FIELD_INVALID")


@pytest.mark.parametrize("number", ["1e400", "1" * 5000, "9223372036854775808", "1.5"])
def test_a_count_that_is_no_count_is_refused(http, number):
    body = f'{{"image": "{B64}", "options": {{"top_k": {number}}}}}'
    assert refusal(http.post("/v1/classify", content=body, headers=JSON))[:2] == (
        *(400, "FIELD_INVALID"),
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", f'{{"image": "{B64}", "image": "aGVsbG8="}}'),
        ("/v1/classify", f'{{"image": "{B64}", "options": {{"top_k": 1, "topK": 2}}}}'),
        ("/v1/batch", f'{{"items": [], "items": [{{"image": "{B64}"}}]}}'),
    ],
)
def test_a_key_that_is_given_twice_is_refused(http, path, body):
    assert refusal(http.post(path, content=body, headers=JSON))[:2] == (400, "FIELD_INVALID")


@pytest.mark.parametrize("path", PATHS)
def test_text_of_ten_megabytes_is_refused(http, path):
    body = json.dumps({"url": "a" * 10 * MIB, "image": "a" * 10 * MIB})
    answer = http.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 413), answer.text[:300]


def test_a_message_that_inflates_to_256_mb_is_refused(channel, admin_key):
    call = channel.unary_unary("/image_categorizer.v1.BatchService/CreateBatch")
    headers = [("authorization", f"Bearer {admin_key}")]
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(256 * MIB), metadata=headers, timeout=60, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unknown_fields_of_a_message_are_ignored(channel, admin_key):
    request = metadata_pb2.ListModelsRequest.FromString(b"\xfa\x3f\x03abc")
    assert request.SerializeToString()
    stub = metadata_pb2_grpc.MetadataServiceStub(channel)
    assert stub.ListModels(request, metadata=[("authorization", f"Bearer {admin_key}")], timeout=20)


def test_a_batch_of_nothing_is_refused(channel, admin_key):
    with pytest.raises(grpc.RpcError) as caught:
        batch_pb2_grpc.BatchServiceStub(channel).CreateBatch(
            batch_pb2.CreateBatchRequest(),
            metadata=[("authorization", f"Bearer {admin_key}")],
            timeout=20,
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
