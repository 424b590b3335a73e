"""How many URIs fit into one message, through Envoy. `MAX_IMAGE_SIZE` is 2 MB here."""

import json

import pytest
from image_categorizer import BatchTooLarge, ImageCategorizationClient

LIMIT_BYTES = -(-(2 * (2 << 20) + (1 << 20)) // 3) * 4
"""Maximum size of a message and of a JSON body: 7 MB."""


def uris(size_bytes):
    """Returns a body just below the size, and the number of its items."""
    item = {"image_uri": "https://photos.example/" + "a" * 900 + ".jpg"}
    each = len(json.dumps(item, separators=(",", ":"))) + 1
    count = (size_bytes - len('{"items":[]}')) // each
    return json.dumps({"items": [item] * count}, separators=(",", ":")), count


def test_the_server_accepts_the_largest_json_body_of_the_gateway(http):
    body, count = uris(LIMIT_BYTES)
    assert LIMIT_BYTES - 2000 < len(body) <= LIMIT_BYTES
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("item_count")) == (200, count), answer.text[:500]
    batch_id = answer.json()["batch_id"]
    http.post(f"/v1/batch/{batch_id}:cancel", json={})


@pytest.mark.parametrize("factor", [1.01, 1.3, 4])
def test_a_larger_body_is_refused_with_the_alternative(http, factor):
    body, _ = uris(int(LIMIT_BYTES * factor))
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["details"][0]["reason"] == "BATCH_TOO_LARGE"
    assert "several batches" in answer.json()["message"]


def test_the_sdk_refuses_too_many_uris_likewise(up, admin_key):
    uri = "https://photos.example/" + "a" * 900
    with (
        ImageCategorizationClient(admin_key, up.url) as client,
        pytest.raises(BatchTooLarge, match="several batches"),
    ):
        client.batches.submit_uris([uri] * (LIMIT_BYTES // 900))
