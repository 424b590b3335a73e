"""Settings of access tokens: who issues them, and what their claims mean here."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from image_categorizer_server.settings.fetch import Network
from image_categorizer_server.settings.group import Group

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
]  # fmt: skip
"""Signatures by a key pair.  Neither `none` nor HS*, whose keys sign and verify."""
ClaimPath = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
"""A claim by its name, or by the path to it: `["realm_access", "roles"]`."""
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class IssuerSettings(Group):
    """An issuer, whose access tokens are accepted; docs/tokens.md describes the fields."""

    name: str
    issuer: str
    audiences: tuple[str, ...] = Field(min_length=1)
    other_audiences: tuple[str, ...] = ()
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "ES256", "PS256", "EdDSA"), min_length=1)
    types: tuple[str, ...] = Field(("at+jwt",), min_length=1)
    access_claims: tuple[str, ...] = Field(("scope", "scp", "client_id"), min_length=1)
    jwks_url: str = ""
    tenant: str = ""
    tenant_claim: ClaimPath = ()
    role_claim: ClaimPath = ("roles",)
    roles: dict[str, str] = Field(min_length=1)
    scope_claim: ClaimPath = ()
    scopes: dict[str, str] = Field(default_factory=dict)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs that the settings name."""
        return (self.issuer, self.jwks_url) if self.jwks_url else (self.issuer,)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not NAME.fullmatch(self.name):
            raise ValueError("name must be 1 to 32 of a-z, 0-9 and -")
        if self.tenant and self.tenant_claim:
            raise ValueError("an issuer has either tenant or tenant_claim")
        if self.scopes and not self.scope_claim:
            raise ValueError("scopes require scope_claim")
        if not self.role_claim:
            raise ValueError("role_claim must name a claim")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("https", "http") or not parts.hostname:
                raise ValueError("issuer and jwks_url must be URLs")
            if parts.query or parts.fragment or parts.username:
                raise ValueError("issuer and jwks_url have no query, fragment or user")
        return self


class TokenSettings(Group):
    """Access tokens of identity providers (JWT), beside API keys."""

    issuers: tuple[IssuerSettings, ...] = Field(
        (),
        description="Issuers whose access tokens are accepted, as a JSON list of objects; see "
        "docs/tokens.md. Empty: API keys only.",
    )
    leeway_s: int = Field(
        30,
        ge=0,
        le=60,
        description="By how much the clocks of issuers may differ from this one's, in seconds.",
    )
    max_lifetime_s: int = Field(
        86_400,
        ge=60,
        le=604_800,
        description="Maximum time between the issue of a token and its expiry, in seconds.",
    )
    max_bytes: int = Field(8192, ge=512, le=32_768, description="Maximum size of a token.")
    cache_s: float = Field(
        30.0,
        ge=0,
        le=60,
        description="How long a verified token is not verified again, in seconds. It never "
        "outlives its expiry or its key.",
    )
    refresh_s: float = Field(
        120.0,
        ge=1,
        le=200,
        description="Interval at which the keys of each issuer are read, in seconds. A token whose "
        "key is unknown causes a reading at once, at most every 25 s.",
    )
    keep_keys_s: float = Field(
        86_400.0,
        ge=3600,
        le=604_800,
        description="How long known keys stay in force while they cannot be read again, in "
        "seconds.",
    )
    timeout_s: float = Field(
        5.0, gt=0, le=10, description="Time limit for reading the keys of an issuer, in seconds."
    )
    allow_http: bool = Field(
        False, description="Whether issuers may have http URLs. Only for development."
    )
    allowed_networks: tuple[Network, ...] = Field(
        (),
        description='Private networks in which issuers may be, as a JSON list: ["10.1.0.0/16"].',
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("name", "issuer"):
            values = [getattr(issuer, field) for issuer in self.issuers]
            if len(set(values)) < len(values):
                raise ValueError(f"two issuers have the same {field}")
        urls = [url for issuer in self.issuers for url in issuer.urls]
        if not self.allow_http and any(urlsplit(url).scheme != "https" for url in urls):
            raise ValueError("issuers must have https URLs, or set allow_http")
        return self
