"""The form of tokens: what is refused before a signature is looked at."""

import json

import pytest
from image_categorizer_server.access.jws import (
    REFUSED_HEADERS,
    TokenRefused,
    parse,
    strict_object,
    verify_signature,
)

from tests.support.issuer import claims, encoded, header, new_key, signed

MAX_BYTES = 8192
KEY = new_key()


def token(head=None, body=None):
    head = header() if head is None else head
    return signed(head, claims() if body is None else body, KEY, "ES256")


def test_a_token_is_read():
    parsed = parse(token(header(typ="application/at+JWT")), MAX_BYTES)
    assert (parsed.algorithm, parsed.key_id, parsed.type) == ("ES256", "k1", "at+jwt")
    assert parsed.claims == claims()
    verify_signature(parsed, KEY)


def test_what_a_header_need_not_have_is_empty():
    parsed = parse(token(header(kid=None, typ=None)), MAX_BYTES)
    assert (parsed.key_id, parsed.type) == (None, "")


@pytest.mark.parametrize("name", REFUSED_HEADERS)
def test_a_header_must_not_bring_a_key_or_an_extension(name):
    with pytest.raises(TokenRefused, match=f"'{name}'"):
        parse(token({**header(), name: "x"}), MAX_BYTES)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "a b.c.d", "ä.b.c", "a.b.c\n", "a=.b.c"),
        ".".join(token().split(".")[:2]) + ".",
        token().replace(".", " ."),
    ],
)
def test_other_forms_are_refused(text):
    with pytest.raises(TokenRefused, match="three parts"):
        parse(text, MAX_BYTES)


def test_the_size_is_limited():
    with pytest.raises(TokenRefused, match="more than 8192 bytes"):
        parse(token(body=claims(note="x" * 100_000)), MAX_BYTES)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b'"x"',
        b"\xff",
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": %s}' % (b"9" * 5000),
        b"[" * 200_000,
        b'{"a":' * 100_000,
        json.dumps({"a": 1}).encode("utf-16"),
    ],
    ids=range(12),
)
def test_only_json_that_every_program_reads_alike_is_an_object(content):
    with pytest.raises(ValueError, match="."):
        strict_object(content)


def test_two_members_of_one_name_are_refused_in_both_parts():
    twice = json.dumps(header())[:-1].encode() + b', "alg": "ES256"}'
    with pytest.raises(TokenRefused, match="header is malformed: .* two members"):
        parse(token(twice), MAX_BYTES)
    twice = json.dumps(claims())[:-1].encode() + b', "sub": "eve"}'
    with pytest.raises(TokenRefused, match="payload is malformed: .* two members"):
        parse(token(body=twice), MAX_BYTES)


def test_every_changed_part_breaks_the_signature():
    good = token()
    head, body, signature = good.split(".")
    changed = [
        f"{encoded(header(typ='x')).decode()}.{body}.{signature}",
        f"{head}.{encoded(claims(sub='eve')).decode()}.{signature}",
        f"{head}.{body}.{encoded(bytes(64)).decode()}",
        f"{head}.{body}.{encoded(b'x' * 64).decode()}",
        f"{head}.{body}.{encoded(b'x' * 70).decode()}",
        f"{head}.{body}.{signature[:-2]}",
    ]
    verify_signature(parse(good, MAX_BYTES), KEY)
    for text in changed:
        with pytest.raises(TokenRefused, match="signature is wrong"):
            verify_signature(parse(text, MAX_BYTES), KEY)
    with pytest.raises(TokenRefused, match="signature is wrong"):
        verify_signature(parse(good, MAX_BYTES), new_key())


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_signatures_of_every_default_algorithm_are_verified(algorithm):
    key = new_key(algorithm=algorithm)
    text = signed(header(alg=algorithm), claims(), key, algorithm)
    verify_signature(parse(text, MAX_BYTES), key)
