"""Receipts and drift through Envoy: stored, signed, verified without a server, forged in vain."""

import json

import httpx
import pytest
from image_categorizer import ImageCategorizationClient, ReceiptInvalid, verify_receipt

from tests.support.pictures import jpeg
from tests.support.up import command

PICTURE = jpeg(64, 48, 77)


def answers(http):
    """Yields (path in the document, method, response) of the operations about receipts."""
    stored = http.post("/v1/classify?store=true", content=PICTURE).json()
    path = "/v1/results/{result_id}"
    here = f"/v1/results/{stored['result_id']}"
    receipt = http.get(f"{here}/receipt")
    yield f"{path}/receipt", "get", receipt
    body = {"receipt": receipt.json()["receipt"]}
    yield "/v1/results:verify", "post", http.post("/v1/results:verify", json=body)
    yield f"{path}:replay", "post", http.post(f"{here}:replay", json={})
    yield "/v1/receipts/keys", "get", http.get("/v1/receipts/keys")
    yield "/v1/models/{model}:drift", "get", http.get("/v1/models/efficientnet_lite0:drift")


def test_a_stored_result_has_a_receipt_that_anybody_can_verify(up, admin_key, http, tmp_path):
    with ImageCategorizationClient(admin_key, up.url) as client:
        result = client.classify_image(PICTURE, store=True)
        receipt = client.results.receipt(result.result_id)
        assert client.results.verify(receipt).valid
        assert client.results.replay(result.result_id).matches
    keys = httpx.get(f"{up.url}/v1/receipts/keys").json()  # without credentials
    claims = verify_receipt(receipt.receipt, keys, PICTURE)
    assert claims["predictions"][0]["category"] == result.category
    header, payload, signature = receipt.receipt.split(".")
    forged = f"{header}.{payload[:-4]}AAAA.{signature}"
    with pytest.raises(ReceiptInvalid):
        verify_receipt(forged, keys)
    assert http.post("/v1/results:verify", json={"receipt": forged}).json()["valid"] is False
    files = {"receipt.json": {"receipt": receipt.receipt}, "keys.json": keys}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    verified = command(
        *("receipts", "verify", tmp_path / "receipt.json", "--keys", tmp_path / "keys.json")
    )
    assert json.loads(verified.stdout) == claims
    drift = command("models", "drift", "efficientnet_lite0", "--data", up.data)
    assert "NOT_ENOUGH_IMAGES" in drift.stdout
