"""The int8 version of the packaged model: made after the start, and used by its alias."""

import json

import httpx
import pytest
from image_categorizer import ImageCategorizationClient, ModelNotFound
from image_categorizer_server.inference.models.packaged import multiplies_int8

from tests.conftest import EXPORTS, FAST_VERSION
from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import Up, command, free_port

NAME = "efficientnet_lite0"
PATH = f"/v1/models/{NAME}"
PICTURE = jpeg()
MADE_WITHIN_S = 120
needs_int8 = pytest.mark.skipif(
    not multiplies_int8(), reason="this processor has neither VNNI nor AMX"
)


@pytest.fixture
def fast(clean_environment, tmp_path):
    """An installation whose cache holds version 1 only, and its settings."""
    (tmp_path / "cache").mkdir()
    for folder in EXPORTS.glob("packaged-?"):
        (tmp_path / "cache" / folder.name).symlink_to(folder)
    variables = {
        FAST_VERSION: "true",
        "CATEGORIZER_MODELS__CACHE_PATH": str(tmp_path / "cache"),
        "CATEGORIZER_MODELS__SCAN_INTERVAL_S": "0.5",
        "CATEGORIZER_CACHE__TTL_S": "0",
    }
    running = Up(tmp_path / "data", free_port(), variables)
    running.start()
    yield running
    running.stop()


def rest(up, key, **query):
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(
        f"{up.url}/v1/classify", params=query, content=PICTURE, headers=headers, timeout=30
    )


@pytest.mark.slow
@needs_int8
def test_the_int8_version_answers_by_its_alias_and_no_other_request(fast):
    key = fast.shown_key()
    headers = {"authorization": f"Bearer {key}"}

    def is_ready():
        answer = httpx.get(f"{fast.url}{PATH}", params={"version": "fast"}, headers=headers)
        return answer.json().get("state") == "READY"

    wait_until(is_ready, MADE_WITHIN_S)
    with ImageCategorizationClient(key, fast.url) as client:
        by_grpc = client.classify_image(PICTURE, version="fast", bounding_boxes=True)
        plain = client.classify_image(PICTURE)
        listed = {model.version: model for model in client.models.list()}
    by_rest = rest(fast, key, version="fast")
    assert by_rest.status_code == 200, by_rest.text
    assert by_grpc.model.version == by_rest.json()["model"]["version"] == "2"
    assert by_grpc.predictions[0].bounding_box
    first = by_rest.json()["predictions"][0]
    assert by_grpc.predictions[0].confidence == pytest.approx(first["confidence"], abs=1e-4)
    assert plain.model.version == rest(fast, key).json()["model"]["version"] == "1"
    assert (listed["1"].aliases, listed["1"].precision) == ((), "fp32")
    assert (listed["2"].aliases, listed["2"].precision) == (("fast",), "int8")
    assert (listed["1"].default, listed["2"].default) == (True, False)

    shown = command("models", "list", "--data", fast.data, **fast.variables)
    assert f"{NAME} version 2: int8 is right on 144 of 164 labelled pictures" in shown.stderr
    as_json = command("models", "list", "--json", "--data", fast.data, **fast.variables)
    records = [version["quantization"] for version in json.loads(as_json.stdout)]
    assert (records[0], records[1]["fp32_top_1"]) == (None, 145)
    verified = command("models", "verify", "--data", fast.data, **fast.variables)
    assert verified.stdout.count("matches its manifest") == 2

    # A second start finds it in the cache.
    made = next((fast.data.parent / "cache").glob(f"packaged-int8-*/{NAME}/2"))
    before = made.stat().st_ino
    assert fast.stop() == 0
    fast.lines.clear()
    fast.start()
    wait_until(is_ready, MADE_WITHIN_S)
    assert made.stat().st_ino == before


def test_without_the_int8_version_its_alias_is_unknown(up, admin_key, http):
    answer = http.post("/v1/classify", params={"version": "fast"}, content=PICTURE)
    assert (answer.status_code, "has no alias" in answer.json()["message"]) == (404, True)
    with (
        ImageCategorizationClient(admin_key, up.url) as client,
        pytest.raises(ModelNotFound, match="no alias"),
    ):
        client.classify_image(PICTURE, version="fast")
