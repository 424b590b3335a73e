"""Settings of outgoing HTTP: images by URI, and webhooks."""

from ipaddress import IPv4Network, IPv6Network

from pydantic import Field

from image_categorizer_server.settings.group import Group

Network = IPv4Network | IPv6Network


class FetchSettings(Group):
    """Calls to hosts that users name: images by URI, and webhooks."""

    allow_http: bool = Field(False, description="Whether http URLs are allowed too, on port 80.")
    allowed_ports: tuple[int, ...] = Field(
        (), description="Allowed ports in addition to 443, as a JSON list."
    )
    allowed_networks: tuple[Network, ...] = Field(
        (),
        description='Private networks that may be called, as a JSON list: ["10.1.0.0/16"].',
    )
    denied_networks: tuple[Network, ...] = Field(
        (), description="Public networks that must not be called, such as your own."
    )
    buckets: tuple[str, ...] = Field(
        (),
        description='Buckets from which users may read images: ["s3://photos", "gs://a/b"].',
    )
    resolver: str = Field(
        "",
        description="DNS server, as address:port. Empty for the servers in /etc/resolv.conf.",
    )
    timeout_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Time limit for one image, including redirects and retries.",
    )
    max_wait_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="How long an image waits at most while other calls to its host are under way.",
    )
    resolve_timeout_s: float = Field(
        3.0, gt=0, le=60, description="Time limit for resolving a name."
    )
    connect_timeout_s: float = Field(
        3.0, gt=0, le=60, description="Time limit for connecting to one address."
    )
    max_redirects: int = Field(
        3, ge=0, le=10, description="Maximum number of redirects followed for one image."
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="How often the request for an image is repeated if its host fails.",
    )
    max_url_characters: int = Field(4096, ge=64, le=65_536, description="Maximum length of a URL.")
    max_per_host: int = Field(
        4,
        ge=1,
        le=1000,
        description="Maximum number of concurrent calls from one process to one host and port.",
    )
    max_connections: int = Field(
        100, ge=1, le=10_000, description="Maximum number of concurrent calls from one process."
    )
    keep_alive_s: float = Field(
        5.0, ge=0, le=300, description="How long an idle connection stays open."
    )
    ca_file: str = Field(
        "",
        description="PEM file of certificates to trust in addition to the public ones. Empty for "
        "none.",
    )
