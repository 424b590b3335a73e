"""Verifies access tokens: signed statements of an identity provider about its user (RFC 9068).

    token ─▶ form ─▶ issuer ─▶ type ─▶ algorithm ─▶ key ─▶ signature ─▶ claims ─▶ principal

Issuers, their algorithms and where their keys are come from the settings, nothing of it from the
token (RFC 8725).  The caller learns only that a token is not valid; the reason is in the log, and
`image-categorizer access explain` shows it.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachetools import TTLCache
from joserfc.errors import ClaimError
from joserfc.jwt import JWTClaimsRegistry

from image_categorizer_server import clock
from image_categorizer_server.access.claims import ClaimMapping, Note, ignore
from image_categorizer_server.access.jwks import IssuerKeys
from image_categorizer_server.access.jws import (
    Object,
    TokenRefused,
    UnverifiedToken,
    media_type,
    parse,
    verify_signature,
)
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.errors import CredentialsInvalid
from image_categorizer_server.quoting import quoted
from image_categorizer_server.settings.token import IssuerSettings, TokenSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ACCESS_TOKEN = "at+jwt"  # noqa: S105 - a media type
# RFC 9068 tells access tokens from ID tokens by the type. Without it these claims do: only ID
# tokens have them.
ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash")
CACHED_TOKENS = 10_000
MAX_LOGGED_CHARACTERS = 300
REFUSAL = "the access token is not valid"


@dataclass(frozen=True, slots=True)
class Issuer:
    """What verifies the tokens of one issuer."""

    settings: IssuerSettings
    keys: IssuerKeys
    mapping: ClaimMapping


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    keys: IssuerKeys
    generation: int
    """Of the keys that the token was verified with."""
    expire_s: float
    """Seconds since 1970."""


class TokenVerifier:
    """Verifies access tokens, with a short cache."""

    def __init__(self, settings: TokenSettings, issuers: Mapping[str, Issuer]) -> None:
        """Configures the verifier.

        Args:
            settings: limits.
            issuers: by the claim `iss`.
        """
        self._settings = settings
        self._issuers = issuers
        self._cache: TTLCache[bytes, _Verified] = TTLCache(CACHED_TOKENS, ttl=settings.cache_s)

    @property
    def issuers(self) -> Collection[Issuer]:
        """The issuers whose tokens are accepted."""
        return self._issuers.values()

    async def verify(self, token: str) -> Principal:
        """Returns the caller that a token stands for.

        Raises:
            CredentialsInvalid: the token is not accepted.
            DependencyDown: the keys of its issuer could not be read yet, or not for too long.
        """
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        verified = self._cache.get(digest)
        if verified is None or not self._is_valid(verified):
            try:
                verified = await self._verified(token, ignore)
            except TokenRefused as error:
                reason = str(error)[:MAX_LOGGED_CHARACTERS]
                log.info("an access token is refused", reason=reason)
                raise CredentialsInvalid(REFUSAL) from None
            self._cache[digest] = verified
        return verified.principal

    async def explain(self, token: str, note: Note) -> Principal:
        """Returns the caller that a token stands for.

        Args:
            token: any text.
            note: is given a sentence about each check that the token passes.

        Raises:
            TokenRefused: names the check that the token does not pass.
            CategorizerError: the keys of its issuer cannot be read.
        """
        return (await self._verified(token, note)).principal

    def _is_valid(self, verified: _Verified) -> bool:
        return (
            verified.generation == verified.keys.generation
            and verified.keys.are_in_force
            and clock.now().timestamp() < verified.expire_s + self._settings.leeway_s
        )

    async def _verified(self, text: str, note: Note) -> _Verified:
        token = parse(text, self._settings.max_bytes)
        note("It is a signed token, of a permitted size.")
        name = token.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenRefused(f"its issuer {quoted(str(name))} is not configured")
        note(f"It names the issuer {issuer.settings.issuer}, configured as {issuer.settings.name}.")
        _check_type(issuer.settings, token)
        note(f"Its type is {quoted(token.type)}, of an access token.")
        if token.algorithm not in issuer.settings.algorithms:
            raise TokenRefused(f"the algorithm {quoted(token.algorithm)} is not permitted")
        key = await issuer.keys.find(token.key_id, token.algorithm)
        generation = issuer.keys.generation
        verify_signature(token, key)
        note(f"The issuer's key {quoted(key.kid or '')} has signed it, by {token.algorithm}.")
        expire_s = check_claims(token.claims, issuer.settings, self._settings)
        note(f"It is for us, and in force for {expire_s - clock.now().timestamp():.0f} s more.")
        principal = issuer.mapping.principal(token.claims, note)
        return _Verified(principal, issuer.keys, generation, expire_s)


def check_claims(claims: Object, issuer: IssuerSettings, limits: TokenSettings) -> float:
    """Passes the claims of a token that is for us and in force.

    Returns:
        When it expires, in seconds since 1970.

    Raises:
        TokenRefused: it is of another issuer, not for us alone, not in force, or bound to a key.
    """
    registry = JWTClaimsRegistry(
        now=int(clock.now().timestamp()),
        leeway=limits.leeway_s,
        iss={"essential": True, "value": issuer.issuer},
        aud={"essential": True, "values": list(issuer.audiences)},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
    )
    try:
        registry.validate(claims)
    except ClaimError as error:
        value = quoted(str(claims.get(error.claim)))
        raise TokenRefused(f"{error.description} ({error.claim} is {value})") from None
    others = set(_audiences(claims)) - {*issuer.audiences, *issuer.other_audiences}
    if others:
        raise TokenRefused(f"it is also for {quoted(min(others))}")
    if "cnf" in claims:
        raise TokenRefused("it is bound to a key of its owner, which is not checked here")
    lifetime_s = claims["exp"] - claims["iat"]
    if not 0 < lifetime_s <= limits.max_lifetime_s:
        limit_s = limits.max_lifetime_s
        raise TokenRefused(f"the time from 'iat' to 'exp' is not between 0 and {limit_s} s")
    return float(claims["exp"])


def _audiences(claims: Object) -> list[str]:
    audience: str | list[str] = claims["aud"]
    return [audience] if isinstance(audience, str) else audience


def _check_type(issuer: IssuerSettings, token: UnverifiedToken) -> None:
    """Passes access tokens.

    Raises:
        TokenRefused: it is an ID token, or of a type that the settings do not admit.
    """
    if token.type not in map(media_type, issuer.types):
        raise TokenRefused(f"its type {quoted(token.type)} is not permitted")
    if token.type == ACCESS_TOKEN:
        return
    for name in ID_TOKEN_CLAIMS:
        if name in token.claims:
            raise TokenRefused(f"it is an ID token: it has {quoted(name)}")
    if token.claims.get("typ") == "ID" or token.claims.get("token_use") == "id":
        raise TokenRefused("it is an ID token: it says so")
    if not any(name in token.claims for name in issuer.access_claims):
        names = ", ".join(issuer.access_claims)
        raise TokenRefused(f"it may be an ID token: it has none of the claims {names}")
