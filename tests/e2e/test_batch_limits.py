"""How many URIs one message may hold, through Envoy; `MAX_IMAGE_SIZE` is 2 MB here."""

import json

import pytest
from image_categorizer import BatchTooLarge, ImageCategorizationClient

LIMIT_BYTES = -(-(2 * (2 << 20) + (1 << 20)) // 3) * 4
"""Of a message, and of a body of JSON: 7 MB."""


def uris(size_bytes):
    """Returns a body of at most that size, and of nearly that."""
    item = {"image_uri": "https://photos.example/" + "a" * 900 + ".jpg"}
    each = len(json.dumps(item, separators=(",", ":"))) + 1
    count = (size_bytes - len('{"items":[]}')) // each
    return json.dumps({"items": [item] * count}, separators=(",", ":")), count


def test_what_the_gateway_takes_as_json_the_server_takes_too(http):
    body, count = uris(LIMIT_BYTES)
    assert LIMIT_BYTES - 2000 < len(body) <= LIMIT_BYTES
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("item_count")) == (200, count), answer.text[:500]
    batch_id = answer.json()["batch_id"]
    http.post(f"/v1/batch/{batch_id}:cancel", json={})


@pytest.mark.parametrize("factor", [1.01, 1.3, 4])
def test_more_is_refused_with_the_way_out(http, factor):
    body, _ = uris(int(LIMIT_BYTES * factor))
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["details"][0]["reason"] == "BATCH_TOO_LARGE"
    assert "several batches" in answer.json()["message"]


def test_the_sdk_says_the_same_of_too_many_uris(up, admin_key):
    uri = "https://photos.example/" + "a" * 900
    with (
        ImageCategorizationClient(admin_key, up.url) as client,
        pytest.raises(BatchTooLarge, match="several batches"),
    ):
        client.batches.submit_uris([uri] * (LIMIT_BYTES // 900))
