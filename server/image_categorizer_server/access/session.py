"""Sessions of people: cookies, the secrets of a sign-in, and who a cookie stands for.

A cookie is sent by browsers also when another site makes them call (CSRF).  So it counts only on
calls of which the browser says that this site makes them (`sec-fetch-site`), or which carry a
header that other sites cannot add.
"""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cachetools import TTLCache

from image_categorizer_server import clock
from image_categorizer_server.domain.access import Principal, Session
from image_categorizer_server.errors import CredentialsInvalid

COOKIES_HEADER = "x-cookies"
"""Our own cookies, as the gateway passes them on."""
SAME_SITE_HEADER = "sec-fetch-site"
REFUSAL = "the session is not valid"
OWN_HEADER = "x-image-categorizer"
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes
SECRET_BYTES = 32
CACHED_SESSIONS = 10_000
_UNKNOWN = object()
TOUCH_INTERVAL_S = 60.0
"""The use of a session is written at most this often."""
SIGN_IN_S = 600
"""How long a sign-in at the provider may take."""


@dataclass(frozen=True, slots=True)
class SignInSecrets:
    """What binds a sign-in to one browser: all follow from a seed, which only that browser has."""

    state: str
    nonce: str
    verifier: str
    """Of PKCE; its hash goes to the provider at first, itself at the end."""

    @classmethod
    def of(cls, seed: str) -> "SignInSecrets":
        """Returns the secrets that follow from a seed."""
        return cls(*(_derived(seed, purpose) for purpose in ("state", "nonce", "verifier")))

    @property
    def challenge(self) -> str:
        """What the provider checks the verifier against (RFC 7636, S256)."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())


def new_secret() -> str:
    """Returns a new random secret: 256 bits."""
    return secrets.token_urlsafe(SECRET_BYTES)


def sha256_of(secret: str) -> str:
    """Returns the stored form of a session's secret: 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Cookies:
    """The names of our cookies, and what they look like."""

    def __init__(self, is_secure: bool) -> None:
        """Chooses the names.

        Args:
            is_secure: whether browsers call by TLS. Only then do they take the prefix `__Host-`,
                which keeps other hosts of the domain from setting the cookie.
        """
        prefix = "__Host-ic_" if is_secure else "ic_"
        self.session = f"{prefix}session"
        self.sign_in = f"{prefix}sign_in"
        self._flags = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")

    def set(self, name: str, value: str, max_age_s: int) -> str:
        """Returns the value of `set-cookie`; without a value the cookie is deleted."""
        return f"{name}={value}; Max-Age={max_age_s if value else 0}{self._flags}"

    def secret_in(self, headers: Mapping[str, str], name: str) -> str | None:
        """Returns the secret in a cookie; None if there is none, or not exactly one."""
        pairs = (pair.strip().partition("=") for pair in headers.get(COOKIES_HEADER, "").split(";"))
        values = [value for found, _, value in pairs if found == name]
        return values[0] if len(values) == 1 and SECRET.fullmatch(values[0]) else None


def is_same_site(headers: Mapping[str, str]) -> bool:
    """Returns whether a page of this site makes the call, as far as the browser says."""
    said = headers.get(SAME_SITE_HEADER)
    return said == "same-origin" if said else OWN_HEADER in headers


class SessionVerifier:
    """Verifies the cookies of sessions, with a short cache."""

    def __init__(
        self,
        find: Callable[[str], Awaitable[Session | None]],
        touch: Callable[[str, datetime], Awaitable[None]],
        idle_s: float,
        cache_s: float,
    ) -> None:
        """Configures the verifier.

        Args:
            find: returns the session with a SHA-256, None if there is none.
            touch: writes when a session was used last.
            idle_s: how long a session lasts without a call, in seconds.
            cache_s: how long a session, or its absence, is cached: one that is ended works that
                long.
        """
        self._find = find
        self._touch = touch
        self._idle = timedelta(seconds=idle_s)
        self._cache: TTLCache[str, Session | object | None] = TTLCache(CACHED_SESSIONS, ttl=cache_s)

    async def verify(self, secret: str) -> Principal:
        """Returns the caller that a session belongs to.

        Raises:
            CredentialsInvalid: the session is unknown, or has ended.
            DependencyDown: the database does not answer.
        """
        secret_sha256, now = sha256_of(secret), clock.now()
        session = self._cache.get(secret_sha256, _UNKNOWN)
        if session is _UNKNOWN:
            session = self._cache[secret_sha256] = await self._find(secret_sha256)
        if not isinstance(session, Session) or session.end_time is not None:
            raise CredentialsInvalid(REFUSAL)
        if now >= min(session.expire_time, session.use_time + self._idle):
            raise CredentialsInvalid(REFUSAL)
        if now - session.use_time >= timedelta(seconds=TOUCH_INTERVAL_S):
            self._cache.pop(secret_sha256, None)
            await self._touch(secret_sha256, now)
        return session.principal

    def forget(self, secret: str) -> None:
        """Forgets a session that has ended."""
        self._cache.pop(sha256_of(secret), None)


def _derived(seed: str, purpose: str) -> str:
    return _base64url(hmac.digest(seed.encode(), purpose.encode(), hashlib.sha256))


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
