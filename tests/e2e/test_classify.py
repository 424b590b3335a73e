"""The same picture by every way in, through Envoy."""

import base64
import struct

import grpc
import httpx
import pytest
from image_categorizer import CrashingImage, ImageCategorizationClient
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.e2e.conftest import KILLER
from tests.support.pictures import encoded, jpeg, scene
from tests.support.polling import wait_until

PICTURE = jpeg(500, 375)
TO_GRPC_WEB = "/image_categorizer.v1.ClassifyService/Classify"


def by_json(up, key, http):
    body = {"image": base64.b64encode(PICTURE).decode(), "options": {"top_k": 3}}
    return http.post("/v1/classify", json=body).raise_for_status().json()


def by_form(up, key, http):
    form = {"files": {"image": ("a.jpg", PICTURE)}, "data": {"top_k": "3"}}
    return http.post("/v1/classify", **form).raise_for_status().json()


def by_bytes(up, key, http):
    headers = {"content-type": "image/jpeg"}
    answer = http.post("/v1/classify?top_k=3", content=PICTURE, headers=headers)
    return answer.raise_for_status().json()


def by_curl_data_binary(up, key, http):
    # What curl sends for --data-binary without a header of its own.
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = http.post("/v1/classify?top_k=3", content=PICTURE, headers=headers)
    return answer.raise_for_status().json()


def by_grpc(up, key, http):
    request = classify_pb2.ClassifyRequest(image=PICTURE, options={"top_k": 3})
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        answer = stub.Classify(request, metadata=[("authorization", f"Bearer {key}")], timeout=10)
    return as_json(answer)


def by_grpc_web(up, key, http):
    request = classify_pb2.ClassifyRequest(image=PICTURE, options={"top_k": 3})
    message = request.SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    body = b"\0" + struct.pack(">I", len(message)) + message
    answer = http.post(TO_GRPC_WEB, content=body, headers=headers).raise_for_status()
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    flag, length = struct.unpack_from(">BI", answer.content)
    assert flag == 0
    response = classify_pb2.ClassifyResponse.FromString(answer.content[5 : 5 + length])
    assert b"grpc-status:0" in answer.content[5 + length :]
    return as_json(response)


def by_sdk(up, key, http):
    with ImageCategorizationClient(key, f"localhost:{up.port}") as client:
        result = client.classify_image(PICTURE, top_k=3)
    return {
        "success": True,
        "predictions": [
            {"category": p.category, "confidence": p.confidence} for p in result.predictions
        ],
        "model": {"digest": result.model.digest},
    }


def as_json(response):
    return {
        "success": response.success,
        "predictions": [
            {"category": p.category, "confidence": p.confidence} for p in response.predictions
        ],
        "model": {"digest": response.model.digest},
    }


WAYS = [by_json, by_form, by_bytes, by_curl_data_binary, by_grpc, by_grpc_web, by_sdk]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_gives_the_same_answer(up, admin_key, http, way):
    expected, given = by_json(up, admin_key, http), way(up, admin_key, http)
    assert given["success"] is True
    assert given["model"]["digest"] == expected["model"]["digest"]
    assert [p["category"] for p in given["predictions"]] == [
        p["category"] for p in expected["predictions"]
    ]
    for mine, theirs in zip(given["predictions"], expected["predictions"], strict=True):
        assert mine["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4)


def test_the_answer_has_the_form_of_the_contract(up, admin_key, http):
    answer = by_json(up, admin_key, http)
    assert list(answer) == [
        "success",
        "predictions",
        "processing_time",
        "model",
        "timing",
        "request_id",
        "cache",
        "heat_map",
        "warnings",
        "image_id",
        "result_id",
        "neighbours",
    ]
    shown = set(answer["predictions"][0])
    fields = {"category", "confidence", "bounding_box", "category_id", "ancestors"}
    assert shown == fields | {"bounding_boxes"}
    assert set(answer["model"]) == {"name", "version", "digest"}
    assert set(answer["timing"]) == {
        "decode_ms",
        "queue_ms",
        "inference_ms",
        "batch_size",
        "batch_close_reason",
    }
    assert answer["timing"]["batch_close_reason"] == "IDLE"
    assert answer["predictions"][0]["category_id"].startswith("n")
    assert any(prediction["ancestors"] for prediction in answer["predictions"])


def test_a_request_id_is_kept_and_given_back(http):
    headers = {"x-request-id": "camera-7.42"}
    answer = http.post("/v1/classify", content=PICTURE, headers=headers)
    assert answer.json()["request_id"] == "camera-7.42" == answer.headers["x-request-id"]
    assert len(http.post("/v1/classify", content=PICTURE).headers["x-request-id"]) >= 32


@pytest.mark.parametrize(
    "image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]
)
def test_every_format_of_the_contract_is_read(http, image_format):
    if image_format not in http.get("/v1/info").json()["image_formats"]:
        pytest.skip(f"this installation does not read {image_format}")
    if image_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    content = encoded(scene(64, 48), image_format)
    answer = http.post("/v1/classify", files={"image": content})
    assert (answer.status_code, answer.json()["success"]) == (200, True)


@pytest.mark.parametrize("size_bytes", [1, 16 * 1024, 1 << 20, (2 << 20) - 64 * 1024])
def test_bodies_of_every_size_arrive_whole(http, size_bytes):
    # What follows the end of a JPEG is ignored; one byte alone is no image.
    content = (PICTURE + bytes(max(0, size_bytes - len(PICTURE))))[:size_bytes]
    for body in (
        {"content": content},
        {"files": {"image": content}},
        {"json": {"image": base64.b64encode(content).decode()}},
    ):
        answer = http.post("/v1/classify", **body)
        expected = 200 if size_bytes >= len(PICTURE) else 400
        assert answer.status_code == expected, answer.text


def test_options_work_by_query_and_by_form(http):
    answer = http.post(
        "/v1/classify?top_k=1&include_categories=tabby&include_categories=beagle", content=PICTURE
    )
    assert len(answer.json()["predictions"]) == 1
    assert answer.json()["predictions"][0]["category"] in ("tabby", "beagle")
    form = {"files": {"image": PICTURE}, "data": {"top_k": "2"}}
    answer = http.post("/v1/classify?include_categories=tabby", **form)
    assert [p["category"] for p in answer.json()["predictions"]] == ["tabby"]


def test_pages_of_allowed_origins_may_call_and_read(http, up):
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    answer = httpx.options(f"{up.url}/v1/classify", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    answer = http.post("/v1/classify", content=PICTURE, headers={"origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    other = http.post("/v1/classify", content=PICTURE, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_an_image_that_crashes_the_only_server_does_so_once(up, http, admin_key):
    def deaths() -> int:
        return sum("server ended" in line for line in up.lines)

    def is_back() -> bool:
        assert deaths() == before + 1
        return bool(http.get("/readyz").status_code == 200)

    before = deaths()
    # No other process can take the call over, and the next one may come too late.
    assert http.post("/v1/classify", content=KILLER).status_code in (400, 503)
    wait_until(lambda: deaths() > before, 30, 0.1)
    wait_until(is_back, 60, 0.2)
    refused = http.post("/v1/classify", content=KILLER)
    assert refused.status_code == 400
    assert refused.json()["details"][0]["reason"] == "IMAGE_CRASHES_SERVER"
    with ImageCategorizationClient(admin_key, up.url) as client:
        with pytest.raises(CrashingImage):
            client.classify_image(KILLER)
        assert client.classify_image(jpeg()).predictions
    assert deaths() == before + 1
