"""The public keys of an issuer, which it publishes as a JSON Web Key Set (RFC 7517).

    watch ─▶ refresh ─▶ discovery (once) ─▶ key set ─▶ keys in force
      ▲                                                   ▲
      └── wanted: a token names a key that is unknown ── find

One task reads them, so readings never overlap, and nobody waits for a lock.  Known keys stay in
force while the issuer is down.  A token with an unknown key causes a reading at once, but forgers
cannot cause many: there is one in `MIN_INTERVAL_S`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from joserfc.jwk import JWKRegistry, Key
from joserfc.util import urlsafe_b64decode

from image_categorizer_server import clock
from image_categorizer_server.access.jws import Object, TokenRefused, fits, strict_object
from image_categorizer_server.clock import Backoff
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.quoting import quoted
from image_categorizer_server.settings.token import IssuerSettings, TokenSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MIN_INTERVAL_S = 25.0
"""At least this long passes before a token causes another reading: at most three in a minute."""
FIRST_RETRY_S, MAX_RETRY_S = 1.0, MIN_INTERVAL_S
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 100
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MAX_LOGGED_CHARACTERS = 200
# What a key consists of; x5c and the like are not looked at.
MEMBERS = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
PRIVATE_MEMBERS = ("d", "k")
OIDC_PATH = "/.well-known/openid-configuration"
OAUTH_PATH = "/.well-known/oauth-authorization-server"
FetchDocument = Callable[[str, int], Awaitable[bytes]]
"""Returns the document at a URL, of at most a number of bytes; raises `DocumentUnavailable`."""


class DocumentUnavailable(Exception):
    """A document of an issuer cannot be read, or is not what it should be."""


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(
        self, issuer: IssuerSettings, settings: TokenSettings, fetch: FetchDocument
    ) -> None:
        """Knows no key yet.

        Args:
            issuer: whose keys.
            settings: intervals.
            fetch: reads documents.
        """
        self._issuer = issuer
        self._settings = settings
        self._fetch = fetch
        self._url = issuer.jwks_url
        self._keys: list[Key] = []
        self._read_time: datetime | None = None
        self._attempt_time: datetime | None = None
        self._is_reading = False
        self._backoff = Backoff(FIRST_RETRY_S, MAX_RETRY_S)
        self._wanted = asyncio.Event()
        self._attempted = asyncio.Event()
        self.generation = 0
        """Grows when the keys change."""
        self.problem = "they have not been read yet"
        """Why the last reading failed; empty after one that succeeded."""

    @property
    def are_in_force(self) -> bool:
        """Whether the keys have been read, and not too long ago."""
        return self._read_time is not None and self._age_s(self._read_time) < (
            self._settings.keep_keys_s
        )

    async def find(self, key_id: str | None, algorithm: str) -> Key:
        """Returns the key that a token names.  Waits for a reading if the key is unknown.

        Args:
            key_id: its id; None for the only key that fits.
            algorithm: of the token's signature.

        Raises:
            TokenRefused: the issuer has no such key, or several.
            DependencyDown: the keys could not be read, or not for too long.
        """
        if self._read_time is None or self._age_s(self._read_time) >= self._settings.refresh_s:
            # The task that reads them is late if the machine was suspended.
            self._want()
        found = self._matching(key_id, algorithm) if self.are_in_force else []
        if not found:
            await self._next_reading()
            if not self.are_in_force:
                raise DependencyDown(
                    "the keys of the token's issuer cannot be read", retry_after_s=MAX_RETRY_S
                )
            found = self._matching(key_id, algorithm)
        if len(found) != 1:
            named = "without 'kid'" if key_id is None else f"with the id {quoted(key_id)}"
            raise TokenRefused(f"its issuer has {len(found)} keys {named} for {algorithm}")
        return found[0]

    async def watch(self) -> None:
        """Reads the keys again and again; never ends."""
        while True:
            self._wanted.clear()
            await self.refresh()
            pause_s = self._backoff.next_s() if self.problem else self._settings.refresh_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()

    async def refresh(self) -> None:
        """Reads the keys once.  If that fails, says so in `problem` and in the log."""
        self._is_reading, self._attempt_time = True, clock.now()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                keys = await self._read()
        except TimeoutError:
            self._failed("no answer in time")
        except (DocumentUnavailable, ValueError) as error:
            self._failed(str(error))
        else:
            self._take(keys)
        finally:
            self._is_reading = False
            attempted, self._attempted = self._attempted, asyncio.Event()
            attempted.set()

    def _take(self, keys: list[Key]) -> None:
        self._read_time, self.problem = clock.now(), ""
        self._backoff.reset()
        if keys != self._keys or not self.generation:
            self._keys = keys
            self.generation += 1
            ids = [quoted(key.kid or "") for key in keys]
            log.info("keys of an issuer are read", issuer=self._issuer.name, keys=ids)

    def _failed(self, reason: str) -> None:
        self.problem = reason[:MAX_LOGGED_CHARACTERS]
        if not self._issuer.jwks_url:
            self._url = ""  # it may have moved
        log.warning(
            "keys of an issuer cannot be read", issuer=self._issuer.name, reason=self.problem
        )

    def _matching(self, key_id: str | None, algorithm: str) -> list[Key]:
        named = (key for key in self._keys if key_id is None or key.kid == key_id)
        return [key for key in named if fits(key, algorithm)]

    def _want(self) -> bool:
        """Asks for a reading, unless one was a moment ago. Returns whether one is to come."""
        if self._is_reading:
            return True
        last = self._attempt_time
        if last is not None and self._age_s(last) < MIN_INTERVAL_S:
            return False
        self._wanted.set()
        return True

    async def _next_reading(self) -> None:
        if not self._want():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.timeout_s + 1):
                await self._attempted.wait()

    async def _read(self) -> list[Key]:
        """Returns the keys that the issuer publishes now.

        Raises:
            DocumentUnavailable, ValueError: it publishes none that can be read.
        """
        self._url = self._url or await self._discovered()
        document = strict_object(await self._fetch(self._url, MAX_DOCUMENT_BYTES))
        entries = document.get("keys")
        if not isinstance(entries, list) or len(entries) > MAX_KEYS:
            raise DocumentUnavailable("the key set has no list of keys, or too many")
        return [key for entry in entries if (key := self._imported(entry))]

    async def _discovered(self) -> str:
        """Returns the URL of the key set.

        Raises:
            DocumentUnavailable, ValueError: the metadata does not name it.
        """
        metadata = await read_metadata(self._issuer.issuer, self._fetch)
        url = metadata.get("jwks_uri")
        if not isinstance(url, str):
            raise DocumentUnavailable("the metadata has no 'jwks_uri'")
        return url

    def _imported(self, entry: Object) -> Key | None:
        """Returns a key of a set; None if it is none of ours, such as one to encrypt with."""
        try:
            return public_key(entry)
        except Exception as error:  # noqa: BLE001 - joserfc raises KeyError too, for a new curve
            reason = str(error)[:MAX_LOGGED_CHARACTERS] or type(error).__name__
            log.info("a key is not used", issuer=self._issuer.name, reason=reason)
            return None

    @staticmethod
    def _age_s(since: datetime) -> float:
        # Never negative: the system's clock may have been set back.
        return max(clock.now() - since, timedelta(0)).total_seconds()


async def read_metadata(issuer: str, fetch: FetchDocument) -> Object:
    """Returns the metadata of an issuer: of OpenID Connect, else of OAuth 2.0 (RFC 8414).

    Raises:
        DocumentUnavailable, ValueError: there is none, or it is of another issuer.
    """
    try:
        content = await fetch(f"{issuer.rstrip('/')}{OIDC_PATH}", MAX_DOCUMENT_BYTES)
    except DocumentUnavailable:
        parts = urlsplit(issuer)
        path = f"{OAUTH_PATH}{parts.path.rstrip('/')}"  # RFC 8414, section 3.1
        content = await fetch(parts._replace(path=path).geturl(), MAX_DOCUMENT_BYTES)
    metadata = strict_object(content)
    if metadata.get("issuer") != issuer:
        raise DocumentUnavailable("the metadata is of another issuer")
    return metadata


def public_key(entry: Object) -> Key:
    """Returns a key of a set that signatures can be verified with.

    Raises:
        Exception: it is malformed, too short, secret, or for something else.
    """
    if not isinstance(entry, dict):
        raise TypeError("a key is not an object")
    if any(name in entry for name in PRIVATE_MEMBERS):
        raise ValueError("a key is published with its secret")
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        raise ValueError("a key is not for signatures")
    if not isinstance(entry.get("kid", ""), str):
        raise TypeError("the id of a key is not a text")
    if entry.get("kty") == "RSA":  # joserfc only warns
        modulus = urlsafe_b64decode(entry["n"].encode())
        bits = int.from_bytes(modulus).bit_length()
        if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            raise ValueError(f"an RSA key has {bits} bits")
    return JWKRegistry.import_key({name: entry[name] for name in MEMBERS if name in entry})
