"""The form of signed tokens: JWS compact, by RFC 7515, whose payload is a JSON object.

Stricter than the standard, as RFC 8725 advises: a header must not bring the key that it is to be
checked with, and no object may have two members of one name, of which programs read different ones.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.util import urlsafe_b64decode

from image_categorizer_server.quoting import quoted

COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Keys and certificates, which the sender of a token would choose; and extensions, of which the
# server knows none.
REFUSED_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit", "b64")
Object = dict[str, Any]


class TokenRefused(Exception):
    """A token is not accepted.  The text is for operators, never for the caller."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """The contents of a token.  Anybody can have written them."""

    content: bytes
    algorithm: str
    key_id: str | None
    type: str
    """Media type of the token in lower case, without `application/`; empty if it states none."""
    claims: Object


def parse(token: str, max_bytes: int) -> UnverifiedToken:
    """Returns the contents of a token.

    Raises:
        TokenRefused: it is too large or malformed, or its header has what is not accepted.
    """
    if len(token) > max_bytes:
        raise TokenRefused(f"it has more than {max_bytes} bytes")
    content = token.encode(errors="replace")
    if not COMPACT.fullmatch(content):
        raise TokenRefused("it is not three parts of base64url with dots between them")
    header_part, payload_part, _ = content.split(b".")
    header = _object_in(header_part, "header")
    for name in REFUSED_HEADERS:
        if name in header:
            raise TokenRefused(f"its header has {quoted(name)}")
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(algorithm, str) or not isinstance(kind, str):
        raise TokenRefused("its header has no 'alg', or one of 'alg' and 'typ' is not a text")
    if key_id is not None and not isinstance(key_id, str):
        raise TokenRefused("'kid' in its header is not a text")
    return UnverifiedToken(
        content,
        algorithm,
        key_id,
        media_type(kind),
        _object_in(payload_part, "payload"),
    )


def media_type(text: str) -> str:
    """Returns the type of a token in its one spelling (RFC 7515, section 4.1.9)."""
    return text.lower().removeprefix("application/")


def strict_object(content: bytes) -> Object:
    """Returns a JSON object.

    Raises:
        ValueError: it is something else, or an object in it has two members of one name, or a
            number is none.
    """
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the one error of malformed JSON
    return value


class SigningRegistry(JWSRegistry):
    """Knows the one algorithm that a token is to be signed or verified with.

    joserfc warns at each use of EdDSA, whose name RFC 9864 deprecates, but which is what issuers
    state.
    """

    def __init__(self, algorithm: str) -> None:
        # Other members of a header are ignored (RFC 7515, section 4).
        super().__init__(algorithms=[algorithm], strict_check_header=False)

    def get_alg(self, name: str) -> Any:  # noqa: ANN401, RUF100 - joserfc does not export the type
        """Returns the algorithm, without a warning."""
        if [name] != self.allowed:
            raise TokenRefused("it states two algorithms")
        return self.algorithms[name]


def fits(key: Key, algorithm: str) -> bool:
    """Returns whether a key is meant for signatures by the algorithm."""
    try:
        JWSRegistry.algorithms[algorithm].check_key(key)
    except JoseError:
        return False
    return True


def verify_signature(token: UnverifiedToken, key: Key) -> None:
    """Passes a token that the owner of `key` has signed.

    Raises:
        TokenRefused: somebody else has signed it, or it is malformed.
    """
    registry = SigningRegistry(token.algorithm)
    try:
        deserialize_compact(token.content, key, registry=registry)
    except (JoseError, ValueError) as error:
        raise TokenRefused(f"its signature is wrong: {error}") from None


def _object_in(part: bytes, name: str) -> Object:
    try:
        return strict_object(urlsafe_b64decode(part))
    except ValueError as error:
        raise TokenRefused(f"its {name} is malformed: {error}") from None


def _unique(members: list[tuple[str, Any]]) -> Object:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("an object has two members of one name")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
