"""Classification of an image by its URI, by every way in."""

import grpc
import pytest
from image_categorizer import ImageCategorizationClient, ImageTooLarge, ImageUnreachable
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.pictures import jpeg

PICTURE = jpeg(200, 150)


@pytest.fixture
def uri(receiver):
    """The address of the picture, at a host that the installation may call."""
    receiver.files["/a.jpg"] = PICTURE
    receiver.files["/large.jpg"] = PICTURE + bytes(3 << 20)
    receiver.files["/text"] = b"hello"
    return receiver.address + "/a.jpg"


def refusal(answer):
    (info,) = (d for d in answer.json()["details"] if d["@type"].endswith("ErrorInfo"))
    return answer.status_code, info["reason"]


def requests(uri):
    """Yields each way to send a URI by REST, as arguments of `post`."""
    yield {"json": {"image_uri": uri}}
    yield {"json": {"imageUri": f" {uri} ", "image": None}}
    yield {"files": {"image_uri": (None, uri)}}
    yield {"data": {"image_uri": uri}}
    yield {"params": {"image_uri": uri}}
    yield {"params": {"image_uri": uri}, "json": {}}


def test_the_answer_is_that_of_the_image(up, http, admin_key, uri):
    expected = http.post("/v1/classify", content=PICTURE).json()["predictions"]
    for request in requests(uri):
        answer = http.post("/v1/classify", **request)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        headers = [("authorization", f"Bearer {admin_key}")]
        request = classify_pb2.ClassifyRequest(image_uri=uri)
        found = stub.Classify(request, metadata=headers, timeout=10).predictions
        assert [p.category for p in found] == [p["category"] for p in expected]
    with ImageCategorizationClient(admin_key, up.url) as client:
        assert client.classify_image(image_uri=uri, top_k=1).category == expected[0]["category"]
        with pytest.raises(ImageUnreachable):
            client.classify_image(image_uri=uri.replace("a.jpg", "missing.jpg"))
        with pytest.raises(ImageTooLarge):
            client.classify_image(image_uri=uri.replace("a.jpg", "large.jpg"))


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        (("a.jpg", "missing.jpg"), "IMAGE_UNREACHABLE"),
        (("a.jpg", "large.jpg"), "IMAGE_TOO_LARGE"),
        (("a.jpg", "text"), "IMAGE_UNDECODABLE"),
        (("127.0.0.1", "10.0.0.1"), "IMAGE_UNREACHABLE"),
        (("http://", "ftp://"), "FIELD_INVALID"),
        (("http://", "file:///"), "FIELD_INVALID"),
        (("http:", "s3:"), "IMAGE_UNREACHABLE"),
    ],
)
def test_a_uri_that_gives_no_image_is_refused(http, uri, replaced, reason):
    for request in requests(uri.replace(*replaced)):
        assert refusal(http.post("/v1/classify", **request)) == (400, reason)


def test_an_image_and_a_uri_exclude_each_other(http, uri):
    for request in (
        {"json": {"image_uri": uri, "image": "AAAA"}},
        {"data": {"image_uri": uri}, "files": {"image": PICTURE}},
        {"params": {"image_uri": uri}, "content": PICTURE},
    ):
        assert refusal(http.post("/v1/classify", **request)) == (400, "FIELD_INVALID")
    for request in ({"json": {}}, {"json": {"image_uri": ""}}, {"files": {"top_k": (None, "1")}}):
        answer = http.post("/v1/classify", **request)
        assert "image: is required, or image_uri" in answer.json()["message"]


def test_a_silent_host_does_not_outlive_the_deadline(up, admin_key, receiver, uri):
    receiver.is_silent.set()
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        headers = [("authorization", f"Bearer {admin_key}")]
        request = classify_pb2.ClassifyRequest(image_uri=uri.replace("a.jpg", "silent.jpg"))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request, metadata=headers, timeout=1)
    receiver.is_silent.clear()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
