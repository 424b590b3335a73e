"""Bytes that are no message are the caller's fault, and say nothing about the inside."""

import base64

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import classify_pb2

OURS = "/image_categorizer.v1."
NOT_UTF8 = b"\x0a\x02\xff\xfe"
UNREADABLE = [b"\x0a\x50abc", b"\xff" * 50, b"\x07"]
CONFIG = classify_pb2.ClassifyStreamRequest(
    config=classify_pb2.ClassifyStreamConfig()
).SerializeToString()
UNARY = [
    *("BatchService/GetBatch", "MetadataService/GetModel", "ClassifyService/Classify"),
    "HealthService/GetLiveness",
]
DOWNLOADS = [
    "AdminService/ExportAuditEvents",
    "BatchService/WatchBatch",
    "BatchService/ExportBatchResults",
]
UPLOADS = ["BatchService/UploadBatch", "BatchService/UploadBatchForm"]
WEB = "application/grpc-web"
WEB_BODIES = {
    "nothing": b"",
    "half a prefix": bytes(3),
    "no byte of a message": b"\0\0\0\0\x09",
    "half a message": b"\0\0\0\0\x09\x0a\x07half",
    "two messages": bytes(10),
    "trailers": b"\x80\0\0\0\x04a:b\n",
    "an unknown flag": b"\x02\0\0\0\x05\x0a\x03abc",
    "a message and garbage": bytes(5) + b"garbage",
}
INVALID_ARGUMENT = str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
TEXT_PATHS = [
    *("/v1/batch/%ff", "/v1/batch/%ff/results", "/v1/batch/%ff:watch", "/v1/batch?page_token=%ff"),
    *("/v1/models/%ff", "/v1/categories?model=%ff", "/v1/webhooks/%c3%28"),
    *("/v1/batch/%ed%a0%80", "/v1/batch/x%f0%9f", "/v1/batch/x/results:export?format=%ff"),
]


@pytest.fixture(scope="module")
def channel(up):
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        yield channel


@pytest.fixture
def refused(admin_key):
    """Calls, and checks that the answer is a refusal of the request."""

    def call(rpc, *messages):
        headers = [("authorization", f"Bearer {admin_key}")]
        with pytest.raises(grpc.RpcError) as caught:
            list(rpc(iter(messages), metadata=headers, timeout=20))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be read" in caught.value.details()
        details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        status_pb2.Status.FromString(details).details[0].Unpack(info)
        assert info.reason == "FIELD_INVALID"

    return call


@pytest.fixture(autouse=True)
def _no_traceback(up):
    log = up.data / "logs" / "server.log"
    before = log.stat().st_size
    yield
    with log.open("rb") as file:
        file.seek(before)
        assert b"Traceback" not in file.read()


@pytest.mark.parametrize("message", UNREADABLE)
def test_an_unreadable_message_is_refused_by_every_kind_of_rpc(channel, refused, message):
    for rpc in (*UNARY, *DOWNLOADS, *UPLOADS):
        refused(channel.stream_stream(OURS + rpc), message)
    for rpc in ("Check", "Watch"):
        refused(channel.stream_stream(f"/grpc.health.v1.Health/{rpc}"), message)


@pytest.mark.parametrize("messages", [[], [b"", b""]], ids=["none", "two"])
def test_a_call_with_one_message_is_refused_without_it_or_with_more(channel, refused, messages):
    for rpc in (*UNARY, *DOWNLOADS):
        refused(channel.stream_stream(OURS + rpc), *messages)
    for rpc in ("Check", "Watch"):
        refused(channel.stream_stream(f"/grpc.health.v1.Health/{rpc}"), *messages)


@pytest.mark.parametrize("body", WEB_BODIES.values(), ids=WEB_BODIES)
@pytest.mark.parametrize("rpc", ["BatchService/GetBatch", "BatchService/WatchBatch"])
def test_a_grpc_web_call_without_one_whole_message_is_refused(http, rpc, body):
    for content_type, sent in ((WEB, body), (f"{WEB}-text", base64.b64encode(body))):
        headers = {"content-type": content_type}
        answer = http.post(OURS + rpc, content=sent, headers=headers)
        assert answer.headers["grpc-status"] == INVALID_ARGUMENT
        assert "cannot be read" in answer.headers["grpc-message"]


def test_text_that_is_not_utf8_is_refused(channel, refused):
    for rpc in ("BatchService/GetBatch", *DOWNLOADS):
        refused(channel.stream_stream(OURS + rpc), NOT_UTF8)
    refused(channel.stream_stream("/grpc.health.v1.Health/Check"), NOT_UTF8)


@pytest.mark.parametrize("message", [NOT_UTF8, *UNREADABLE])
def test_an_unreadable_message_ends_a_stream_first_and_later(channel, refused, message):
    stream = channel.stream_stream(f"{OURS}ClassifyService/ClassifyStream")
    refused(stream, message)
    refused(stream, CONFIG, message)


@pytest.mark.parametrize("path", TEXT_PATHS)
def test_text_of_an_address_that_is_not_utf8_is_refused(http, path):
    answer = http.get(path)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["reason"] == "FIELD_INVALID"
    assert "DecodeError" not in answer.text


def test_without_a_key_an_unreadable_request_is_unauthenticated(up):
    answer = httpx.get(f"{up.url}/v1/batch/%ff")
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/image_categorizer.v1.BatchService/No", "/no.Service/No", "/no"])
def test_unknown_methods_and_services_are_unimplemented(channel, path):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"\xff", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit_is_refused(channel, admin_key):
    headers = [("authorization", f"Bearer {admin_key}")]
    stream = channel.stream_stream(f"{OURS}ClassifyService/ClassifyStream")
    for messages in ([bytes(16 << 20)], [CONFIG, bytes(16 << 20)]):
        with pytest.raises(grpc.RpcError) as caught:
            list(stream(iter(messages), metadata=headers, timeout=20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
