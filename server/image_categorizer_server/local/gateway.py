"""Envoy's configuration for one machine: `gateway/envoy.yaml.in`, filled in."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template

from image_categorizer_server.settings import Settings

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
SERVICES = ("ClassifyService", "BatchService", "MetadataService", "AdminService", "HealthService")
JSON_OVERHEAD_BYTES = 64 * 1024
# So that the server, which gives up at the deadline, answers first.
LATER_S = 1.0
ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - only ever compared with
REQUEST_HEADERS = (
    "authorization",
    "content-type",
    "grpc-timeout",
    "x-grpc-web",
    "x-request-id",
    "x-user-agent",
)
RESPONSE_HEADERS = (
    "content-disposition",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
    "x-request-id",
)


def gateway_folder() -> Path:
    """Returns where the gateway's files are: inside an installed package, or beside the source."""
    packaged = PACKAGE_FOLDER / "_gateway"
    return packaged if packaged.is_dir() else PACKAGE_FOLDER.parents[1] / "gateway"


def render(
    settings: Settings, port: int, server_sockets: Sequence[Path], admin_socket: Path
) -> str:
    """Returns the configuration as YAML."""
    folder = gateway_folder()
    max_body_bytes = _in_base64(settings.max_image_bytes)
    values = {
        "host": settings.gateway.host,
        "port": port,
        "server_endpoints": json.dumps(
            [{"endpoint": {"address": {"pipe": {"path": str(path)}}}} for path in server_sockets]
        ),
        "admin_socket": json.dumps(str(admin_socket)),
        "descriptor": json.dumps(str(folder / "descriptor.binpb")),
        "openapi": json.dumps(str(folder / "openapi.yaml")),
        "lua": json.dumps(str(folder / "lua" / "bodies.lua")),
        "services": json.dumps([f"image_categorizer.v1.{service}" for service in SERVICES]),
        "cors": json.dumps(_cors(settings.gateway.cors_origins)),
        "max_body_bytes": max_body_bytes,
        "max_batch_body_bytes": settings.max_message_bytes,
        "max_image_bytes": settings.max_image_bytes,
        "max_deadline_s": settings.server.max_deadline_s,
        "route_timeout_s": settings.server.max_deadline_s + LATER_S,
        "stream_idle_timeout_s": settings.gateway.stream_idle_timeout_s,
    }
    return Template((folder / "envoy.yaml.in").read_text()).substitute(values)


def reachable_host(host: str, name: str = "127.0.0.1") -> str:
    """Returns by what one reaches, from this machine, a port that listens on `host`."""
    return name if host in (ALL_INTERFACES, "127.0.0.1") else host


def _in_base64(size_bytes: int) -> int:
    """Returns how large a JSON body is that holds so many bytes."""
    return math.ceil(size_bytes / 3) * 4 + JSON_OVERHEAD_BYTES


def _cors(origins: tuple[str, ...]) -> dict[str, object]:
    if not origins:
        return {}
    matches = [
        {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
        for origin in origins
    ]
    policy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": matches,
        "allow_methods": "GET, POST, PATCH, DELETE, OPTIONS",
        "allow_headers": ", ".join(REQUEST_HEADERS),
        "expose_headers": ", ".join(RESPONSE_HEADERS),
        "max_age": "600",
    }
    return {"envoy.filters.http.cors": policy}
