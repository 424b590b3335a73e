"""Settings of outgoing HTTP: images by URI, webhooks."""

from ipaddress import IPv4Network, IPv6Network

from pydantic import Field

from image_categorizer_server.settings.group import Group

Network = IPv4Network | IPv6Network


class FetchSettings(Group):
    """Images by URI, webhooks: what we call on behalf of others."""

    allow_http: bool = Field(False, description="Whether http is called too, on port 80.")
    allowed_ports: tuple[int, ...] = Field(
        (), description="Ports that may be called besides 443, as a JSON list."
    )
    allowed_networks: tuple[Network, ...] = Field(
        (),
        description='Private networks that may be called all the same: ["10.1.0.0/16"].',
    )
    denied_networks: tuple[Network, ...] = Field(
        (), description="Public networks that may not be called, such as your own."
    )
    buckets: tuple[str, ...] = Field(
        (),
        description='Buckets whose images our credentials may read: ["s3://photos", "gs://a/b"].',
    )
    resolver: str = Field(
        "", description="DNS server to ask, address:port; empty: the system's, /etc/resolv.conf."
    )
    timeout_s: float = Field(
        10.0, gt=0, le=600, description="Most time for one image, redirects and tries included."
    )
    max_wait_s: float = Field(
        60.0, gt=0, le=3600, description="Most time that an image waits for its turn at the host."
    )
    resolve_timeout_s: float = Field(3.0, gt=0, le=60, description="Most time to resolve a name.")
    connect_timeout_s: float = Field(
        3.0, gt=0, le=60, description="Most time to connect to one address."
    )
    max_redirects: int = Field(
        3, ge=0, le=10, description="Most redirects that are followed for one image."
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="How often an image is asked for again that its host failed to send.",
    )
    max_url_characters: int = Field(
        4096, ge=64, le=65_536, description="Longest URL that is called."
    )
    max_per_host: int = Field(
        4, ge=1, le=1000, description="Calls at a time to one host and port, of each process."
    )
    max_connections: int = Field(
        100, ge=1, le=10_000, description="Calls at a time, of each process."
    )
    keep_alive_s: float = Field(
        5.0, ge=0, le=300, description="How long a connection is kept for the next call."
    )
    ca_file: str = Field(
        "", description="PEM file of certificates to trust besides the public ones; empty: none."
    )
