"""Settings of the gateway, and of the command line as a client."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from image_categorizer_server.settings.group import Group


class GatewaySettings(Group):
    """The gateway: Envoy, as `image-categorizer up` configures it."""

    host: str = Field(
        "127.0.0.1", description="Address that the public port listens on. 0.0.0.0: all interfaces."
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description='Origins whose web pages may call (CORS), as a JSON list. ["*"]: all. '
        "If it is not set: pages of this machine, and in production none.",
    )
    dashboard: bool = Field(
        True,
        description="Whether the dashboard is shown, at / and below /ui. Otherwise / is a page "
        "with links.",
    )
    threads: int = Field(1, ge=1, le=256, description="Number of Envoy's worker threads.")
    stream_idle_timeout_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Time without data in either direction after which a stream is closed.",
    )
    max_connections: int = Field(
        16_000,
        ge=10,
        le=1_000_000,
        description="Maximum connections. Nine tenths of the limit of open files if that is less.",
    )
    max_connections_per_address: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Maximum connections of one client address that have sent something.",
    )
    max_new_connections_per_address_per_s: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Maximum connections that one client address opens in a second. Others are "
        "closed once they send something.",
    )
    address_groups: int = Field(
        16,
        ge=2,
        le=256,
        description="Groups that client addresses are spread over. A group shares "
        "the limits of an address; each takes about 3 MB.",
    )
    first_bytes_timeout_s: float = Field(
        5.0, gt=0, le=3600, description="Time until a connection has sent its first bytes."
    )
    headers_timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Time until the headers of a request have arrived. HTTP/2 connections are "
        "closed idle_timeout_s later.",
    )
    idle_timeout_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Time without a request after which a connection is closed.",
    )
    max_headers_kib: int = Field(
        32, ge=8, le=96, description="Maximum size of a request's headers, path and query included."
    )
    tls_cert_path: str = Field(
        "",
        description="PEM file with the certificate of the public port, and those between it and "
        "its authority. A new file that is moved to its place is used at once. Empty: no TLS.",
    )
    tls_key_path: str = Field(
        "", description="PEM file with the key of that certificate, in the same folder."
    )
    hsts_max_age_s: int = Field(
        0,
        ge=0,
        le=63_072_000,
        description="How long browsers use only TLS for this host (strict-transport-security). "
        "0, or without TLS: they are not told.",
    )
    trusted_hops: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of proxies in front of the gateway that add to x-forwarded-for. What "
        "others write into it is not believed.",
    )

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if bool(self.tls_cert_path) != bool(self.tls_key_path):
            raise ValueError("tls_cert_path and tls_key_path belong together")
        if Path(self.tls_cert_path).parent != Path(self.tls_key_path).parent:
            raise ValueError("tls_cert_path and tls_key_path must be in one folder")
        return self


class ClientSettings(Group):
    """The command line as a client of a remote server."""

    base_url: str = Field(
        "",
        description=(
            "Address of the server, such as localhost:8080 or https://host. "
            "Empty: the local installation."
        ),
    )
    api_key: str = Field(
        "",
        repr=False,
        description="API key for that server. Empty: the key of the local installation.",
    )
    root_certificates_path: str = Field(
        "",
        description="PEM file with the authorities that may vouch for that server. "
        "Empty: the public ones.",
    )
    server_name: str = Field(
        "",
        description="A name in that server's certificate. Empty: the host of the address.",
    )
