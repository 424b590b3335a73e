"""Which connections of an installation cross a network unencrypted."""

import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from image_categorizer_server.settings import Settings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
VERIFYING = ("verify-ca", "verify-full")


def clear_hops(settings: Settings, *, is_gateway: bool = False) -> list[str]:
    """Returns a sentence for each connection that others in the network could read or change.

    Unix sockets and loopback addresses do not leave the machine.

    Args:
        settings: of this process.
        is_gateway: whether this process configures the gateway.
    """
    return [*_inside(settings), *_stores(settings), *(_gateway(settings) if is_gateway else ())]


def warn_of_clear_hops(settings: Settings) -> None:
    """Logs a warning for each, in production."""
    if settings.environment == "production":
        for sentence in clear_hops(settings):
            log.warning("a connection is not encrypted", what=sentence)


def _gateway(settings: Settings) -> Iterator[str]:
    if not settings.gateway.tls_cert_path and not _is_here(settings.gateway.host):
        yield "clients call the gateway without TLS: set CATEGORIZER_GATEWAY__TLS_CERT_PATH"


def _inside(settings: Settings) -> Iterator[str]:
    if settings.internal_tls.path:
        return
    bind, base_url = settings.server.bind, settings.client.base_url
    if not bind.startswith("unix:") and not _is_here(bind.rpartition(":")[0]):
        yield "the server listens without TLS: set CATEGORIZER_INTERNAL_TLS__PATH"
    if base_url.lower().startswith("http:") and not _is_here(urlsplit(base_url).hostname or ""):
        yield "the server is called without TLS: write https:// in CATEGORIZER_CLIENT__BASE_URL"


def _stores(settings: Settings) -> Iterator[str]:
    database = urlsplit(settings.database_url)
    parameters = parse_qs(database.query)
    host = database.hostname or parameters.get("host", [""])[-1]
    mode = parameters.get("sslmode", [os.environ.get("PGSSLMODE", "")])[-1]
    if not _is_here(host) and mode not in VERIFYING:
        yield "PostgreSQL is not verified: add sslmode=verify-full to DATABASE_URL"
    redis = urlsplit(settings.redis_url)
    if redis.scheme == "redis" and not _is_here(redis.hostname or ""):
        yield "Redis is called without TLS: write rediss:// in REDIS_URL"
    traces = urlsplit(settings.telemetry.traces_endpoint)
    if traces.scheme == "http" and not _is_here(traces.hostname or ""):
        yield "traces are sent without TLS: CATEGORIZER_TELEMETRY__TRACES_ENDPOINT takes https://"
    endpoint = urlsplit(settings.storage.endpoint)
    if endpoint.scheme == "http" and not _is_here(endpoint.hostname or ""):
        yield "images are stored without TLS: write https:// in CATEGORIZER_STORAGE__ENDPOINT"


def _is_here(host: str) -> bool:
    """Returns whether a host is this machine; the folder of a socket is, and so is none."""
    host = host.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in {"", "localhost"} or host.startswith("/")
