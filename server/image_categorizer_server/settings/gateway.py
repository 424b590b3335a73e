"""Settings of what stands before the server: Envoy, and the command line as a client."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class GatewaySettings(Group):
    """Envoy, as `image-categorizer up` configures it."""

    host: str = Field(
        "127.0.0.1", description="Address the public port listens on; 0.0.0.0 for all interfaces."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='Origins whose pages may call, as a JSON list; ["*"] for all.'
    )
    threads: int = Field(1, ge=1, le=256, description="Worker threads of Envoy.")
    stream_idle_timeout_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Time that a stream may carry nothing, in either direction, until it is cut.",
    )


class ClientSettings(Group):
    """The command line as a client of a server elsewhere."""

    base_url: str = Field(
        "", description="Address of the server, such as localhost:8080; empty: the embedded one."
    )
    api_key: str = Field(
        "",
        repr=False,
        description="API key to call it with; empty: the embedded installation's own.",
    )
