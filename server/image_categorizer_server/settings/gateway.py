"""Settings of the gateway, and of the command line as a client."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class GatewaySettings(Group):
    """The gateway: Envoy, as `image-categorizer up` configures it."""

    host: str = Field(
        "127.0.0.1", description="Address that the public port listens on. 0.0.0.0: all interfaces."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='Origins whose web pages may call (CORS), as a JSON list. ["*"]: all.'
    )
    threads: int = Field(1, ge=1, le=256, description="Number of Envoy's worker threads.")
    stream_idle_timeout_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Time without data in either direction after which a stream is closed.",
    )


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
