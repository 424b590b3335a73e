"""What is wrong gets a clear 4xx in one form; the server stays up and answers others."""

import base64
import json
import subprocess
import sys
import threading

import grpc
import httpx
import pytest
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.pictures import encoded, jpeg, scene

PICTURE = jpeg()
ALLOWED_AFTER_ALL = {  # formats of the contract
    "disguised_tiff.jpg",
    "disguised_bmp.jpg",
    "disguised_avif.jpg",
}


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Returns (HTTP status, reason, message), after checking the form that all refusals have."""
    assert answer.headers["content-type"] == "application/json", answer.text
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    assert body["message"]
    for inside in ("Traceback", "asyncpg", "SELECT", "/usr", ".py", "Error:"):
        assert inside not in answer.text
    info = next(d for d in body["details"] if d["@type"].endswith("google.rpc.ErrorInfo"))
    assert info["domain"] == "image-categorizer"
    return answer.status_code, info["reason"], body["message"]


def post_json(http, body):
    return http.post("/v1/classify", json=body)


B64 = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    ("body", "status", "reason", "words"),
    [
        ({}, 400, "FIELD_INVALID", "image: is required"),
        ({"image": ""}, 400, "IMAGE_UNDECODABLE", "empty"),
        ({"image": "aGVsbG8="}, 400, "IMAGE_UNDECODABLE", "not an image"),
        ({"image": "%%%"}, 400, "FIELD_INVALID", "image"),
        (
            {"image": B64, "options": {"confidence_threshold": 7}},
            400,
            "FIELD_INVALID",
            "confidence_threshold",
        ),
        ({"image": B64, "options": {"top_k": -1}}, 400, "FIELD_INVALID", "top_k"),
        ({"image": B64, "options": {"top_k": "many"}}, 400, "FIELD_INVALID", "top_k"),
        ({"image": B64, "options": {"model": "nope"}}, 404, "MODEL_NOT_FOUND", "nope"),
        (
            {"image": B64, "options": {"include_categories": ["unicorn"]}},
            404,
            "CATEGORY_NOT_FOUND",
            "unicorn",
        ),
        ([1], 400, "FIELD_INVALID", ""),
    ],
)
def test_wrong_json_requests_name_what_is_wrong(http, body, status, reason, words):
    answer = post_json(http, body)
    assert refusal(answer)[:2] == (status, reason), answer.text
    assert words in refusal(answer)[2]


@pytest.mark.parametrize("body", [b"{", b"", b'{"image": "', b"\xff\xfe", b"null"])
def test_bodies_that_are_no_json_are_refused(http, body):
    answer = http.post("/v1/classify", content=body, headers={"content-type": "application/json"})
    assert refusal(answer)[:2] == (400, "FIELD_INVALID")


def test_every_wrong_option_is_named_at_once(http):
    answer = post_json(http, {"image": B64, "options": {"top_k": 0, "confidence_threshold": -1}})
    bad = next(d for d in answer.json()["details"] if d["@type"].endswith("BadRequest"))
    fields = {violation["field"] for violation in bad["field_violations"]}
    assert fields == {"options.top_k", "options.confidence_threshold"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("confidence_threshold=7", "confidence_threshold"),
        ("top_k=-1", "top_k"),
        ("top_k=x", "top_k"),
        ("flavour=new", "flavour"),
        ("model=nope", "nope"),
    ],
)
def test_wrong_query_parameters_are_named(http, query, words):
    for body in ({"content": PICTURE}, {"files": {"image": PICTURE}}):
        answer = http.post(f"/v1/classify?{query}", **body)
        assert answer.status_code in (400, 404)
        assert words in refusal(answer)[2]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"files": {"picture": PICTURE}}, "picture"),
        ({"files": [("image", PICTURE), ("image", PICTURE)]}, "2 times"),
        ({"files": {"image": PICTURE}, "data": {"top_k": "-3"}}, "top_k"),
        ({"files": {"image": PICTURE}, "data": {"colour": "red"}}, "colour"),
    ],
)
def test_wrong_forms_are_named(http, form, words):
    answer = http.post("/v1/classify", **form)
    assert refusal(answer)[:2] == (400, "FIELD_INVALID")
    assert words in refusal(answer)[2]


def test_json_sent_as_something_else_gets_a_hint(http):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = http.post("/v1/classify", content=json.dumps({"image": B64}), headers=headers)
    assert "content-type: application/json" in refusal(answer)[2]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "CREDENTIALS_MISSING"),
        ({"authorization": "Bearer wrong"}, "CREDENTIALS_INVALID"),
        ({"authorization": "Bearer ic_" + "a" * 49}, "CREDENTIALS_INVALID"),
        ({"authorization": "Basic dTpw"}, "CREDENTIALS_INVALID"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/models", "/v1/categories", "/v1/info"])
def test_without_a_good_key_nothing_is_answered(up, headers, reason, path):
    if path == "/v1/classify":
        answer = httpx.post(up.url + path, content=PICTURE, headers=headers)
    else:
        answer = httpx.get(up.url + path, headers=headers)
    assert refusal(answer)[:2] == (401, reason)


def test_a_viewer_may_look_but_not_classify(up, viewer_key):
    headers = {"authorization": f"Bearer {viewer_key}"}
    assert httpx.get(f"{up.url}/v1/models", headers=headers).status_code == 200
    answer = httpx.post(f"{up.url}/v1/classify", content=PICTURE, headers=headers)
    assert refusal(answer)[:2] == (403, "ROLE_INSUFFICIENT")


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/nope", "/v1/models/nope", "/v1/categories?model=nope"]
)
def test_what_does_not_exist_is_not_found(http, path):
    assert refusal(http.get(path))[0] == 404


@pytest.mark.parametrize("size_bytes", [(2 << 20) + 1, 3 << 20, 5 << 20])
def test_an_image_over_the_limit_is_refused_by_every_way(http, up, admin_key, size_bytes):
    content = PICTURE + bytes(size_bytes - len(PICTURE))
    for body in (
        {"content": content},
        {"files": {"image": content}},
        {"json": {"image": base64.b64encode(content).decode()}},
    ):
        status, reason, message = refusal(http.post("/v1/classify", **body))
        assert (status in (400, 413), reason) == (True, "IMAGE_TOO_LARGE")
        assert "2097152" in message
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        headers = [("authorization", f"Bearer {admin_key}")]
        with pytest.raises(grpc.RpcError, match="5242880" if size_bytes >= 5 << 20 else "2097152"):
            stub.Classify(classify_pb2.ClassifyRequest(image=content), metadata=headers, timeout=10)


def test_native_grpc_gets_plain_messages(up):
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="no credentials") as caught:
            stub.Classify(classify_pb2.ClassifyRequest(image=PICTURE), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        unknown = channel.unary_unary("/image_categorizer.v1.NoService/No")
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "{" not in caught.value.details()


def test_a_truncated_jpeg_is_refused(http):
    content = encoded(scene(400, 300))
    answer = http.post("/v1/classify", content=content[: len(content) // 2])
    assert refusal(answer)[:2] == (400, "IMAGE_UNDECODABLE")


@pytest.fixture(scope="session")
def bad_images(test_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    subprocess.run([sys.executable, test_data / "tools" / "badimages.py", folder], check=True)
    return folder, json.loads((folder / "manifest.json").read_text())


def test_seventy_hard_images_get_what_their_manifest_says(http, bad_images):
    folder, manifest = bad_images
    assert len(manifest) >= 70
    others: list[int] = []
    done = threading.Event()

    def keep_asking():
        while not done.is_set():
            others.append(http.post("/v1/classify", content=PICTURE).status_code)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    wrong = []
    for entry in manifest:
        content = (folder / entry["file"]).read_bytes()
        expected = "accept" if entry["file"] in ALLOWED_AFTER_ALL else entry["expect"]
        for body in (
            {"content": content},
            {"files": {"image": content}},
            {"json": {"image": base64.b64encode(content).decode()}},
        ):
            answer = http.post("/v1/classify", **body)
            outcome = "accept" if answer.status_code == 200 else "reject"
            if answer.status_code not in (200, 400, 413) or expected not in ("bounded", outcome):
                wrong.append((entry["file"], expected, answer.status_code, answer.text[:100]))
            if outcome == "reject":
                refusal(answer)
            assert answer.elapsed.total_seconds() < 5
    done.set()
    asking.join()
    assert wrong == []
    assert len(others) > 10
    assert set(others) == {200}
