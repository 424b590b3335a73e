"""Receipts that are verified without a server."""

import base64
import hashlib
import json
import sys
from datetime import UTC, datetime

import pytest
from image_categorizer import ReceiptInvalid, verify_receipt
from image_categorizer_server.access.receipt import ReceiptKeys
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.domain.classification import Category, ModelRef, Prediction
from image_categorizer_server.domain.image import ImageResult
from image_categorizer_server.domain.receipt import ON_STORING, claims_of

IMAGE = b"an image"
RESULT = ImageResult(
    result_id="r-1",
    image_id="i-1",
    predictions=(Prediction(Category("Käfer"), 1e-7),),
    model=ModelRef("pets", 1, "sha256:0"),
    create_time=datetime(2026, 3, 1, tzinfo=UTC),
    input_sha256=hashlib.sha256(IMAGE).hexdigest(),
)
KEYS, STRANGER = (ReceiptKeys(SigningKey.generate(), []) for _ in range(2))
CLAIMS = claims_of("default", RESULT, ON_STORING)
RECEIPT = KEYS.sign(CLAIMS)
KEY_SET = {"keys": [*STRANGER.public_keys(), *KEYS.public_keys()]}
HEADER, PAYLOAD, SIGNATURE = RECEIPT.split(".")


def part(value):
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def header(**changes):
    return part({"alg": "EdDSA", "kid": KEYS.key_id, "typ": "image-categorizer-receipt"} | changes)


def test_a_receipt_is_returned_as_what_it_states():
    assert verify_receipt(RECEIPT, KEY_SET, IMAGE) == json.loads(json.dumps(CLAIMS))
    assert verify_receipt(f"{RECEIPT}\n", KEY_SET) == verify_receipt(RECEIPT, KEY_SET)


@pytest.mark.parametrize(
    ("receipt", "why"),
    [
        (f"{HEADER}.{part(CLAIMS | {'image_id': 'i-2'})}.{SIGNATURE}", "changed"),
        (f"{HEADER}.{PAYLOAD}.{part(b'0' * 64)}", "changed"),
        (f"{HEADER}.{PAYLOAD}.", "changed"),
        (f"{header(alg='none')}.{PAYLOAD}.", "alg EdDSA"),
        (f"{header(alg='HS256')}.{PAYLOAD}.{SIGNATURE}", "alg EdDSA"),
        (f"{header(typ='JWT')}.{PAYLOAD}.{SIGNATURE}", "alg EdDSA"),
        (f"{header(kid='0' * 16)}.{PAYLOAD}.{SIGNATURE}", "not among the keys"),
        (f"{header(kid=STRANGER.key_id)}.{PAYLOAD}.{SIGNATURE}", "changed"),
        (f"{HEADER}.{part(b'[]')}.{SIGNATURE}", "payload is malformed"),
        (f"{HEADER}.{part(b'{' * 9000)}.{SIGNATURE}", "payload is malformed"),
        (part(b'{"alg":"EdDSA","alg":"EdDSA"}') + f".{PAYLOAD}.{SIGNATURE}", "header is malformed"),
        (f"{HEADER}.{PAYLOAD}.*", "signature is malformed"),
        (f"{HEADER}.{PAYLOAD}", "three parts"),
        ("x" * 65_537, "more than"),
        ("", "three parts"),
    ],
)
def test_what_is_not_genuine_is_refused(receipt, why):
    with pytest.raises(ReceiptInvalid, match=why):
        verify_receipt(receipt, KEY_SET)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"keys": None},
        {"keys": ["x"]},
        {"keys": STRANGER.public_keys()},
        {"keys": [KEYS.public_keys()[0] | {"x": "AAAA"}]},
        {"keys": [KEYS.public_keys()[0] | {"crv": "X25519"}]},
    ],
)
def test_without_its_key_a_receipt_is_refused(keys):
    with pytest.raises(ReceiptInvalid, match="not among the keys"):
        verify_receipt(RECEIPT, keys)


def test_a_receipt_is_about_one_image():
    with pytest.raises(ReceiptInvalid, match="another image"):
        verify_receipt(RECEIPT, KEY_SET, IMAGE + b"\0")


def test_without_cryptography_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ImportError, match=r"image-categorizer\[receipts\]"):
        verify_receipt(RECEIPT, KEY_SET)
