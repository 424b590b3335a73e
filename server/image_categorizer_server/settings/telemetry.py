"""Settings of what processes tell of themselves."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from image_categorizer_server.settings.group import Group

MAX_PORT = 65_535


class TelemetrySettings(Group):
    """Metrics and traces."""

    metrics_bind: str = Field(
        "",
        description="Address at which a process answers GET /metrics, in the text format of "
        "Prometheus: host:port. Keep it internal, as it asks for no key. Several processes of one "
        "machine take the ports that follow. Empty for none.",
    )
    pending_interval_s: float = Field(
        15.0,
        gt=0,
        le=3600,
        description="Interval at which a server that answers /metrics counts what is pending.",
    )

    traces_endpoint: str = Field(
        "",
        description="Receiver of traces by OTLP over gRPC: http://host:port or https://host:port. "
        "The gateway of `up` and servers and workers send to it. Empty for no traces.",
    )
    traces_ratio: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the traces that are recorded, of those that begin here. A trace that "
        "a caller has begun is recorded if the caller records it.",
    )

    @field_validator("metrics_bind")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, separator, port = value.rpartition(":")
        if value and not (separator and host and port.isdecimal() and int(port) <= MAX_PORT):
            raise ValueError("write it as host:port, for example 127.0.0.1:9464")
        return value

    @field_validator("traces_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        parts = urlsplit(value)
        try:
            has_port = parts.port is not None
        except ValueError:
            has_port = False
        is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        if value and not (
            parts.scheme in ("http", "https") and parts.hostname and has_port and is_plain
        ):
            raise ValueError("write it as http://host:port, for example http://127.0.0.1:4317")
        return value.rstrip("/")

    def nth_metrics_bind(self, number: int) -> str:
        """Returns the address of one of several processes, counted from 0; empty for none."""
        if not self.metrics_bind:
            return ""
        host, _, port = self.metrics_bind.rpartition(":")
        return f"{host}:{int(port) + number if int(port) else 0}"
