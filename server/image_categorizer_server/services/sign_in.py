"""Sign-in of people by OpenID Connect: authorization code with PKCE, made on the server.

    browser ─▶ start ─▶ provider ─▶ browser ─▶ finish ─▶ session
                          ▲                       │ code, verifier
                          └───────────────────────┘ ID token

The provider's tokens are read once and kept nowhere.  The browser gets a cookie with a random
secret, which JavaScript cannot read.
"""

import base64
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from image_categorizer_server import clock
from image_categorizer_server.access.id_token import IdTokenVerifier
from image_categorizer_server.access.jwks import (
    DocumentUnavailable,
    FetchDocument,
    read_metadata,
)
from image_categorizer_server.access.jws import Object, TokenRefused, strict_object
from image_categorizer_server.access.session import (
    OWN_HEADER,
    REFUSAL,
    SIGN_IN_S,
    Cookies,
    SessionVerifier,
    SignInSecrets,
    is_same_site,
    new_secret,
    sha256_of,
)
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.db import session as rows
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.errors import (
    CredentialsInvalid,
    DependencyDown,
    FailedPrecondition,
)
from image_categorizer_server.settings.sign_in import SignInSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
CALLBACK_PATH = "/auth/callback"
METADATA_S = 300.0
MAX_CODE_CHARACTERS = 2048
MAX_LOGGED_CHARACTERS = 300
REFUSED = "the sign-in failed; start again"
Headers = Mapping[str, str]
PostForm = Callable[[str, Headers, bytes], Awaitable[bytes]]
"""Returns the answer 200 to a form; raises `DocumentUnavailable`."""


@dataclass(frozen=True, slots=True)
class Provider:
    """The identity provider, and how it is asked."""

    issuer: str
    fetch: FetchDocument
    post: PostForm
    id_tokens: IdTokenVerifier


class SignIns:
    """Signs people in and out."""

    def __init__(
        self,
        settings: SignInSettings,
        provider: Provider | None,
        sessions: SessionVerifier,
        tenants: TenantGate,
    ) -> None:
        """Configures the service.

        Args:
            settings: of this service as a client of the provider.
            provider: None if nobody can sign in.
            sessions: verifies what was created here.
            tenants: says whether the tenant of a person is active.
        """
        self._settings = settings
        self._provider = provider
        self._sessions = sessions
        self._tenants = tenants
        self._metadata: Object = {}
        self._metadata_time: datetime | None = None
        self.cookies = Cookies(settings.is_secure)

    @property
    def _redirect_uri(self) -> str:
        return f"{self._settings.public_url}{CALLBACK_PATH}"

    async def start(self) -> tuple[str, str]:
        """Returns where the browser signs in, and the `set-cookie` that binds the sign-in to it.

        Raises:
            FailedPrecondition: nobody can sign in.
            DependencyDown: the provider does not answer.
        """
        seed = new_secret()
        given = SignInSecrets.of(seed)
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": given.state,
            "nonce": given.nonce,
            "code_challenge": given.challenge,
            "code_challenge_method": "S256",
        }
        url = await self._endpoint("authorization_endpoint")
        location = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
        return location, self.cookies.set(self.cookies.sign_in, seed, SIGN_IN_S)

    async def finish(self, headers: Headers, code: str, state: str) -> Principal:
        """Returns who has signed in.

        Args:
            headers: with the cookie of `start`.
            code: of the provider.
            state: as `start` gave it to the provider.

        Raises:
            CredentialsInvalid: the sign-in is of another browser, or the provider does not vouch.
            TenantSuspended: the tenant of the person is suspended.
            FailedPrecondition: nobody can sign in.
            DependencyDown: the provider does not answer.
        """
        provider = self._known_provider()
        seed = self.cookies.secret_in(headers, self.cookies.sign_in)
        given = SignInSecrets.of(seed or new_secret())
        if not hmac.compare_digest(given.state.encode(), state.encode()):
            raise CredentialsInvalid(REFUSED)
        if not 0 < len(code) <= MAX_CODE_CHARACTERS:
            raise CredentialsInvalid(REFUSED)
        try:
            id_token = await self._id_token(provider, code, given.verifier)
            principal = await provider.id_tokens.verify(id_token, given.nonce)
        except (TokenRefused, DocumentUnavailable, ValueError) as error:
            log.info("a sign-in is refused", reason=str(error)[:MAX_LOGGED_CHARACTERS])
            raise CredentialsInvalid(REFUSED) from None
        await self._tenants.check(principal.tenant_id, REFUSED)
        return principal

    async def create_session(self, principal: Principal) -> list[str]:
        """Creates a session; returns each `set-cookie` for its browser.

        Raises:
            DependencyDown: the database does not answer.
        """
        secret, now = new_secret(), clock.now()
        end = now + timedelta(seconds=self._settings.max_s)
        await rows.insert_session(sha256_of(secret), principal, now, end)
        return [
            self.cookies.set(self.cookies.session, secret, int(self._settings.max_s)),
            self.cookies.set(self.cookies.sign_in, "", 0),
        ]

    async def authenticate(self, headers: Headers) -> Principal | None:
        """Returns who calls by a session's cookie; None if there is no such cookie.

        Raises:
            CredentialsInvalid: the session has ended, or another site makes the call.
            TenantSuspended: the tenant of the person is suspended.
            DependencyDown: the database does not answer.
        """
        secret = self.cookies.secret_in(headers, self.cookies.session) if self._provider else None
        if secret is None:
            return None
        _refuse_other_sites(headers)
        principal = await self._sessions.verify(secret)
        await self._tenants.check(principal.tenant_id, REFUSAL)
        return principal

    async def end_session(self, headers: Headers) -> str:
        """Ends the session of the caller; returns the `set-cookie` that deletes its cookie.

        Raises:
            CredentialsInvalid: another site makes the call.
            DependencyDown: the database does not answer.
        """
        if secret := self.cookies.secret_in(headers, self.cookies.session):
            _refuse_other_sites(headers)
            await rows.end_session(sha256_of(secret), clock.now())
            self._sessions.forget(secret)
        return self.cookies.set(self.cookies.session, "", 0)

    async def _id_token(self, provider: Provider, code: str, verifier: str) -> str:
        """Exchanges a code for the ID token.

        Raises:
            DocumentUnavailable, ValueError: the provider refuses, or answers nonsense.
            DependencyDown: its metadata cannot be read.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        client_id, secret = self._settings.client_id, self._settings.client_secret
        if secret:  # RFC 6749, section 2.3.1
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = client_id
        url = await self._endpoint("token_endpoint")
        answer = strict_object(await provider.post(url, headers, urlencode(form).encode()))
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise DocumentUnavailable("the answer has no ID token")
        return token

    async def _endpoint(self, name: str) -> str:
        """Returns an address of the provider, by its metadata.

        Raises:
            FailedPrecondition: nobody can sign in.
            DependencyDown: the metadata cannot be read.
        """
        provider, now = self._known_provider(), clock.now()
        age = now - self._metadata_time if self._metadata_time else None
        if age is None or not timedelta(0) <= age < timedelta(seconds=METADATA_S):
            try:
                self._metadata = await read_metadata(provider.issuer, provider.fetch)
            except (DocumentUnavailable, ValueError) as error:
                reason = str(error)[:MAX_LOGGED_CHARACTERS]
                log.warning("the metadata of the provider cannot be read", reason=reason)
                raise DependencyDown("the identity provider does not answer") from None
            self._metadata_time = now
        url = self._metadata.get(name)
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise DependencyDown(f"the metadata of the identity provider has no {name}")
        return url

    def _known_provider(self) -> Provider:
        if self._provider is None:
            raise FailedPrecondition("nobody can sign in: CATEGORIZER_SIGN_IN__ISSUER is not set")
        return self._provider


def _refuse_other_sites(headers: Headers) -> None:
    """Passes calls that pages of this site make.

    Raises:
        CredentialsInvalid: another site may make the call.
    """
    if not is_same_site(headers):
        raise CredentialsInvalid(
            f"a session counts only on calls of its own site, or with the header {OWN_HEADER}"
        )
