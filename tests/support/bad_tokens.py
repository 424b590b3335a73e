"""Tokens that must not be accepted, by what is wrong with them (figure A3)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator

from image_categorizer_server import clock
from joserfc.jwk import ECKey, Key, OctKey

from tests.support.issuer import AUDIENCE, Json, claims, encoded, header, new_key, signed

TEN_YEARS_S = 10 * 365 * 86_400
ID_TOKEN = {"client_id": None, "roles": ["ic-classifier"], "nonce": "n"}
Make = Callable[[Key], str]


def now_s() -> int:
    return int(clock.now().timestamp())


def with_claims(**changes: object) -> Make:
    return lambda key: signed(header(), claims(**changes), key, "ES256")


def with_times(**seconds: int) -> Make:
    """Returns a token with times so many seconds from now."""

    def make(key: Key) -> str:
        return with_claims(**{name: now_s() + s for name, s in seconds.items()})(key)

    return make


def with_header(**changes: object) -> Make:
    return lambda key: signed(header(**changes), claims(), key, "ES256")


def unsigned(algorithm: str) -> Make:
    return lambda key: signed(header(alg=algorithm), claims(), None, "none")


def twice(part: Json, member: str) -> bytes:
    return json.dumps(part)[:-1].encode() + b", " + member.encode() + b"}"


def signed_with_public_key(form: str) -> Make:
    """HMAC with the public key as the secret, as a confused verifier would take it."""

    def make(key: Key) -> str:
        secret = (
            key.as_pem(private=False)
            if form == "pem" and isinstance(key, ECKey)
            else json.dumps(key.as_dict(private=False)).encode()
        )
        content = encoded(header(alg="HS256")) + b"." + encoded(claims())
        mac = hmac.digest(secret, content, hashlib.sha256)
        return (content + b"." + encoded(mac)).decode()

    return make


def with_own_key(**members: object) -> Make:
    """Signed by the attacker, whose key the header brings."""

    def make(_: Key) -> str:
        own = new_key()
        brought = {name: own.as_dict(private=False) if value is None else value
                   for name, value in members.items()}  # fmt: skip
        return signed({**header(), **brought}, claims(), own, "ES256")

    return make


def with_signature(signature: bytes) -> Make:
    def make(key: Key) -> str:
        return (
            signed(header(), claims(), key, "ES256").rpartition(".")[0]
            + "."
            + (encoded(signature).decode())
        )

    return make


BAD: dict[str, Make] = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg nOnE": unsigned("nOnE"),
    "alg ES256 without a signature": unsigned("ES256"),
    "alg empty": unsigned(""),
    "no alg": lambda key: signed(header(alg=None), claims(), key, "ES256"),
    "alg a list": lambda key: signed({**header(), "alg": ["ES256"]}, claims(), key, "ES256"),
    "alg HS256 with the public key in PEM": signed_with_public_key("pem"),
    "alg HS256 with the public key in JSON": signed_with_public_key("json"),
    "alg HS256 with a guessed secret": lambda key: signed(
        header(alg="HS256"), claims(), OctKey.import_key("secret" * 6), "HS256"
    ),
    "alg RS256 with an EC key": with_header(alg="RS256"),
    "alg ES384 with a key for ES256": with_header(alg="ES384"),
    "signature of another key": lambda key: signed(header(), claims(), new_key(), "ES256"),
    "signature of zeros": with_signature(bytes(64)),
    "signature with r zero": with_signature(bytes(32) + b"\1" * 32),
    "signature empty": with_signature(b""),
    "signature in DER": with_signature(base64.b64decode("MAYCAQACAQA=")),
    "signature over other claims": lambda key: ".".join(
        (
            *signed(header(), claims(sub="eve"), key, "ES256").split(".")[:2],
            signed(header(), claims(), key, "ES256").split(".")[2],
        )
    ),
    "kid a path": with_header(kid="../../../dev/null"),
    "kid SQL": with_header(kid="k1' OR '1'='1"),
    "kid unknown": with_header(kid="k2"),
    "kid empty": with_header(kid=""),
    "kid a number": lambda key: signed({**header(), "kid": 1}, claims(), key, "ES256"),
    "kid a NUL": with_header(kid="k1\0"),
    "jku": with_own_key(jku="https://evil.example/keys"),
    "jwk": with_own_key(jwk=None),
    "x5u": with_own_key(x5u="https://evil.example/cert"),
    "x5c": with_own_key(x5c=["MIIB"]),
    "crit": with_header(crit=["exp"], exp=1),
    "crit empty": with_header(crit=[]),
    "b64": with_header(b64=True),
    "b64 false, crit": with_header(b64=False, crit=["b64"]),
    "typ JWT": with_header(typ="JWT"),
    "typ logout+jwt": with_header(typ="logout+jwt"),
    "typ none": with_header(typ=None),
    "ID token": lambda key: signed(header(typ="JWT"), claims(**ID_TOKEN), key, "ES256"),
    "iss another": with_claims(iss="https://evil.example"),
    "iss with a slash more": with_claims(iss="https://id.example/"),
    "iss a list": with_claims(iss=["https://id.example"]),
    "no iss": with_claims(iss=None),
    "aud another": with_claims(aud="another"),
    "aud in capitals": with_claims(aud=AUDIENCE.upper()),
    "aud a list with others": with_claims(aud=[AUDIENCE, "another"]),
    "aud an empty list": with_claims(aud=[]),
    "aud an object": with_claims(aud={AUDIENCE: 1}),
    "no aud": with_claims(aud=None),
    "no exp": with_claims(exp=None),
    "exp past": with_times(iat=-600, exp=-31),
    "exp in ten years": with_times(exp=TEN_YEARS_S),
    "exp a text": with_claims(exp="9999999999"),
    "exp true": with_claims(exp=True),
    "exp NaN": lambda key: signed(
        header(), json.dumps(claims(exp=float("nan"))).encode(), key, "ES256"
    ),
    "exp 1e400": lambda key: signed(
        header(), json.dumps(claims(exp="@")).replace('"@"', "1e400").encode(), key, "ES256"
    ),
    "exp of 4,000 digits": with_claims(exp=10**4000),
    "nbf future": with_times(nbf=61),
    "nbf a text": with_claims(nbf="now"),
    "iat future": with_times(iat=61, exp=300),
    "iat long past": with_times(iat=-TEN_YEARS_S),
    "iat after exp": with_times(iat=20, exp=10),
    "no iat": with_claims(iat=None),
    "no sub": with_claims(sub=None),
    "sub with a line end": with_claims(sub="ada\nroot"),
    "bound to a key": with_claims(cnf={"jkt": "x"}),
    "no role": with_claims(roles=[]),
    "alg twice": lambda key: signed(
        twice(header(alg="none"), '"alg": "ES256"'), claims(), key, "ES256"
    ),
    "sub twice": lambda key: signed(header(), twice(claims(), '"sub": "eve"'), key, "ES256"),
    "roles twice": lambda key: signed(
        header(), twice(claims(), '"roles": ["ic-admin"]'), key, "ES256"
    ),
    "claims a list": lambda key: signed(header(), b"[]", key, "ES256"),
    "claims nested deeply": lambda key: signed(
        header(), b'{"a":' * 1500 + b"1" + b"}" * 1500, key, "ES256"
    ),
    "100 KB": with_claims(note="x" * 100_000),
    "five parts": lambda key: with_claims()(key) + ".a.b",
    "padding": lambda key: with_claims()(key) + "=",
    "two tokens": lambda key: f"{with_claims()(key)}, Bearer {with_claims()(key)}",
}


def bad_tokens(key: Key) -> Iterator[tuple[str, str]]:
    """Yields all bad tokens with their names; `key` has the id `k1` and is for ES256."""
    for name, make in BAD.items():
        yield name, make(key)
