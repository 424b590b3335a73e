"""Signatures of webhooks, against the package of the standard."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer import WebhookInvalid, verify_webhook
from image_categorizer_server.access.signature import new_secret, signed_headers
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError


def now_s():
    return int(time.time())


def test_a_secret_has_the_form_of_the_standard():
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert new_secret() != secret


def test_the_standard_s_own_example_has_its_signature():
    headers = signed_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.text().map(str.encode), parts=st.text("abcXYZ019-_", min_size=1, max_size=40))
def test_any_message_verifies_by_the_standard_s_package(body, parts):
    secret = new_secret()
    headers = signed_headers([secret], parts, now_s(), body)
    Verifier(secret).verify(body, headers, json_parse=False)


@pytest.mark.parametrize("body", [b"{}", b'{"long": "' + b"x" * 25_000 + b'"}'])
def test_what_was_altered_is_refused(body):
    secret, message_id = new_secret(), "d-1"
    genuine = signed_headers([secret], message_id, now_s(), body)
    assert verify_webhook(secret, genuine, body) == Verifier(secret).verify(body, genuine)
    old = signed_headers([secret], message_id, now_s() - 360, body)
    new = signed_headers([secret], message_id, now_s() + 360, body)
    moved = {**genuine, "webhook-timestamp": str(now_s() - 1)}
    # A dot in the id could shift what is signed from one field to the next.
    dotted = {**genuine, "webhook-id": f"{message_id}.1"}
    unsigned = {k: v for k, v in genuine.items() if k != "webhook-signature"}
    for key, headers, content in (
        (new_secret(), genuine, body),
        (secret, genuine, body + b" "),
        *((secret, headers, body) for headers in (old, new, moved, dotted, unsigned)),
        (secret, {**genuine, "webhook-signature": "v1,AAAA v2,é"}, body),
        (secret, {**genuine, "webhook-timestamp": "now"}, body),
    ):
        with pytest.raises(WebhookInvalid):
            verify_webhook(key, headers, content)
    for headers in (old, new, moved, dotted, unsigned):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(body, headers)


def test_header_names_of_any_case_are_found():
    secret = new_secret()
    headers = signed_headers([secret], "d-1", now_s(), b"{}")
    assert verify_webhook(secret, {k.title(): v for k, v in headers.items()}, b"{}") == {}


def test_a_secret_that_is_none_is_the_caller_s_fault():
    headers = signed_headers([new_secret()], "d-1", now_s(), b"{}")
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook("whsec_not base64", headers, b"{}")


def test_while_a_secret_is_rotated_either_verifies():
    old, new = new_secret(), new_secret()
    headers = signed_headers([new, old], "d-1", now_s(), b"{}")
    for secret in (old, new):
        assert verify_webhook(secret, headers, b"{}") == {}
        assert Verifier(secret).verify(b"{}", headers) == {}
