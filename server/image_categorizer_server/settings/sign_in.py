"""Settings of the sign-in of people."""

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from image_categorizer_server.settings.group import Group


class SignInSettings(Group):
    """Sign-in of people with a browser, by OpenID Connect."""

    issuer: str = Field(
        "",
        description="Name of the issuer in CATEGORIZER_TOKEN__ISSUERS at which people sign in. "
        "Empty: nobody can.",
    )
    client_id: str = Field("", description="Id that the issuer has given to this service.")
    client_secret: str = Field(
        "", repr=False, description="Secret that belongs to client_id. Empty: the issuer asks none."
    )
    public_url: str = Field(
        "",
        description="Address of the gateway as browsers see it, such as https://photos.example.com."
        " The issuer must permit its path /auth/callback.",
    )
    scopes: tuple[str, ...] = Field(
        ("openid", "profile", "email"), description="What the issuer is asked for, as a JSON list."
    )
    admins: tuple[str, ...] = Field(
        (),
        description="People who are admins whatever their claims say: their `sub`, or their "
        "verified e-mail address, as a JSON list.",
    )
    idle_s: float = Field(
        3600.0,
        ge=60,
        le=86_400,
        description="Time without a call after which a session ends, in seconds.",
    )
    max_s: float = Field(
        43_200.0, ge=300, le=604_800, description="Time after which every session ends, in seconds."
    )

    @property
    def is_secure(self) -> bool:
        """Whether browsers call by TLS."""
        return self.public_url.startswith("https://")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.issuer:
            return self
        parts = urlsplit(self.public_url)
        is_here = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")
        if not (parts.scheme == "https" or is_here) or not parts.hostname:
            raise ValueError("public_url must be an https URL, or http://localhost")
        if parts.path or parts.query or parts.fragment:
            raise ValueError("public_url has no path: https://photos.example.com")
        if not self.client_id or "openid" not in self.scopes:
            raise ValueError("a sign-in needs a client_id, and the scope openid")
        return self
