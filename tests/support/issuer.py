"""An identity provider's keys, and tokens: good ones, and any that an attacker may make."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from image_categorizer_server import clock
from image_categorizer_server.access.jwks import DocumentUnavailable
from image_categorizer_server.settings.token import IssuerSettings
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER = "https://id.example"
JWKS = f"{ISSUER}/keys"
AUDIENCE = "image-categorizer"
Json = dict[str, Any]


def encoded(part: Json | bytes) -> bytes:
    """Returns a part of a token: base64url, without padding."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def signed(header: Json | bytes, claims: Json | bytes, key: Key | None, algorithm: str) -> str:
    """Returns a token with exactly these parts; without a key its signature is empty."""
    content = encoded(header) + b"." + encoded(claims)
    signature = JWSRegistry.algorithms[algorithm].sign(content, key) if key else b""
    return (content + b"." + encoded(signature)).decode()


def new_key(kid: str = "k1", algorithm: str = "ES256") -> Key:
    parameters: Any = {"kid": kid, "use": "sig", "alg": algorithm}
    if algorithm.startswith("ES"):
        return ECKey.generate_key("P-256", parameters)
    if algorithm.startswith("Ed"):
        return OKPKey.generate_key("Ed25519", parameters)
    return RSAKey.generate_key(2048, parameters)


def claims(**changes: object) -> Json:
    """Returns the claims of a good token; None removes one."""
    now = int(clock.now().timestamp())
    good: Json = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "client_id": "app",
        "iat": now,
        "exp": now + 300,
        "jti": "1",
        "roles": ["ic-classifier"],
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def header(**changes: object) -> Json:
    """Returns the header of a good token; None removes a member."""
    good: Json = {"alg": "ES256", "kid": "k1", "typ": "at+jwt"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def issuer_settings(**changes: Any) -> IssuerSettings:
    return IssuerSettings(
        **{
            "name": "main",
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "jwks_url": JWKS,
            "roles": {"ic-classifier": "classifier", "ic-admin": "admin"},
        }
        | changes
    )


@dataclass
class Published:
    """What an issuer publishes, by URL; counts the readings."""

    keys: list[Key] = field(default_factory=lambda: [new_key()])
    documents: dict[str, bytes] = field(default_factory=dict)
    """Take precedence over the keys."""
    is_down: bool = False
    reads: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """Answers no more."""
        self.is_down = True

    def resume(self) -> None:
        """Answers again."""
        self.is_down = False

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        self.reads.append(url)
        if self.is_down:
            raise DocumentUnavailable("the host does not answer")
        if url in self.documents:
            return self.documents[url]
        if url == JWKS:
            return self.key_set()
        raise DocumentUnavailable("the host answers 404")

    def key_set(self) -> bytes:
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()

    def token(self, **changes: object) -> str:
        """Returns a token that the first key signs, with changed claims."""
        key = self.keys[0]
        algorithm = str(key.get("alg"))
        return signed(header(kid=key.kid, alg=algorithm), claims(**changes), key, algorithm)
