"""An identity provider that runs here: Authlib's OAuth 2 and OpenID Connect server.

It issues access tokens by RFC 9068 to programs (client credentials) and, with PKCE, to people, who
also get an ID token.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import flask
import httpx
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7636 import CodeChallenge, create_s256_code_challenge
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oidc.core import OpenIDCode, UserInfo
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

AUDIENCE = "image-categorizer"
CLIENT = "robot"
SECRET = "robot-secret"
LIFETIME_S = 600
REDIRECT = "http://localhost/callback"


class Client:
    """The one client of the provider."""

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return REDIRECT

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri.startswith("http://localhost")

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("client_credentials", "authorization_code")


@dataclass
class User:
    """A person who has signed in at the provider."""

    name: str

    def get_user_id(self) -> str:
        return self.name


@dataclass
class Code:
    """An authorization code."""

    code: str
    user: User
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    get_acr = get_amr = get_auth_time


@dataclass
class Provider:
    """A running provider."""

    port: int = 0
    keys: list[RSAKey] = field(default_factory=list)
    roles: list[str] = field(default_factory=lambda: ["ic-classifier"])
    """The claim `roles` of tokens from now on."""
    codes: dict[str, Code] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rotate()

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.port}"

    def rotate(self) -> None:
        """Signs with a new key from now on; the old ones stay published."""
        key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self.keys.insert(0, key)

    def access_token(self, scope: str = "classify") -> str:
        """Returns an access token for a program."""
        answer = httpx.post(
            f"{self.issuer}/token",
            data={"grant_type": "client_credentials", "scope": scope},
            auth=(CLIENT, SECRET),
        )
        return str(answer.raise_for_status().json()["access_token"])

    def sign_in(self, user: str, scope: str = "openid classify") -> dict[str, Any]:
        """Returns what a person's client gets: an access token and an ID token."""
        verifier = secrets.token_urlsafe(48)
        asked = httpx.get(
            f"{self.issuer}/authorize",
            params={
                "response_type": "code",
                "client_id": CLIENT,
                "redirect_uri": REDIRECT,
                "scope": scope,
                "nonce": secrets.token_urlsafe(),
                "state": "s",
                "login_hint": user,
                "code_challenge": create_s256_code_challenge(verifier),
                "code_challenge_method": "S256",
            },
        )
        answer = httpx.post(
            f"{self.issuer}/token",
            data={
                "grant_type": "authorization_code",
                "code": httpx.URL(asked.headers["location"]).params["code"],
                "redirect_uri": REDIRECT,
                "code_verifier": verifier,
            },
            auth=(CLIENT, SECRET),
        )
        return dict(answer.raise_for_status().json())

    def app(self) -> flask.Flask:
        """Returns the provider as a web application."""
        app = flask.Flask(__name__)
        server = AuthorizationServer(
            app, query_client=lambda name: Client() if name == CLIENT else None,
            save_token=lambda token, request: None,
        )  # fmt: skip
        server.register_token_generator("default", AccessTokens(self))
        server.register_grant(ProgramGrant)
        grant = type("PersonGrant", (PersonGrant,), {"provider": self})
        server.register_grant(grant, [IdTokens(self), CodeChallenge(required=True)])

        @app.get("/.well-known/openid-configuration")
        def metadata():
            return {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/jwks",
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }

        @app.get("/jwks")
        def jwks():
            return KeySet(self.keys).as_dict(private=False)

        @app.get("/authorize")
        def authorize():
            user = User(flask.request.args["login_hint"])
            return server.create_authorization_response(
                grant=server.get_consent_grant(user), grant_user=user
            )

        @app.post("/token")
        def token():
            return server.create_token_response()

        return app


class AccessTokens(JWTBearerTokenGenerator):
    """Access tokens by RFC 9068."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider.issuer, expires_generator=lambda client, grant: LIFETIME_S)
        self._provider = provider

    def get_jwks(self):
        return KeySet(self._provider.keys[:1])

    def get_audiences(self, client, user, scope):
        return AUDIENCE

    def get_extra_claims(self, client, grant_type, user, scope):
        return {"roles": self._provider.roles}


class IdTokens(OpenIDCode):
    """ID tokens, beside access tokens."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(require_nonce=True)
        self._provider = provider

    def exists_nonce(self, nonce, request):
        return False

    def resolve_client_private_key(self, client):
        return KeySet(self._provider.keys[:1])

    def get_client_claims(self, client):
        return {"iss": self._provider.issuer}

    def generate_user_info(self, user, scope):
        return UserInfo(sub=user.name, roles=self._provider.roles)


class ProgramGrant(grants.ClientCredentialsGrant):
    """Client credentials."""


class PersonGrant(grants.AuthorizationCodeGrant):
    """Authorization codes, which work once."""

    provider: Provider

    def save_authorization_code(self, code, request):
        data = request.payload.data
        self.provider.codes[code] = Code(
            code,
            request.user,
            request.payload.redirect_uri,
            request.payload.scope,
            data.get("nonce"),
            data.get("code_challenge"),
            data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code, client):
        return self.provider.codes.get(code)

    def delete_authorization_code(self, authorization_code):
        del self.provider.codes[authorization_code.code]

    def authenticate_user(self, authorization_code):
        return authorization_code.user


@contextmanager
def running_provider(port: int) -> Iterator[Provider]:
    """Yields a provider that listens on `localhost`."""
    provider = Provider(port)
    server = make_server("127.0.0.1", port, provider.app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
