"""Where a client connects, and with which gRPC options and headers."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

import grpc

from image_categorizer._access_values import Tls

MEBIBYTE = 2**20
MAX_MESSAGE_BYTES = 128 * MEBIBYTE
MAX_SHOWN = 100
MAX_PORT = 65535
BASE_URL = re.compile(
    r"((?P<scheme>https?)://)?(?P<host>\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+)(:(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and how."""

    address: str
    """What gRPC calls a target."""
    is_secure: bool
    """Whether to use TLS."""
    is_local: bool
    """Whether the server is on this machine."""


def target(base_url: str, tls: Tls | None = None) -> Target:
    """Returns where to connect.

    A host without a scheme means TLS, because a key must not cross a network in clear text by
    mistake; only a server on this machine is called without, unless `tls` is given.

    Raises:
        ValueError: `base_url` is not an address, or has more than a scheme, a host and a port.
    """
    base_url = base_url.strip()
    if base_url.startswith("unix:"):
        return Target(base_url, is_secure=tls is not None, is_local=True)
    found = BASE_URL.fullmatch(base_url)
    port = int(found["port"] or 0) if found else 0
    if found is None or port > MAX_PORT:
        shown = base_url if len(base_url) <= MAX_SHOWN else f"{base_url[:MAX_SHOWN]}..."
        raise ValueError(f"base_url must look like localhost:8080 or https://host, is {shown!r}")
    host, scheme = found["host"], (found["scheme"] or "").lower()
    is_local = _is_loopback(host)
    is_secure = scheme == "https" or (not scheme and (tls is not None or not is_local))
    return Target(f"{host}:{port or (443 if is_secure else 80)}", is_secure, is_local)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")


def channel_options(to: Target, tls: Tls | None = None) -> list[tuple[str, str | int]]:
    """Returns the options of a channel: limits that fit large images, and the server's name."""
    name = tls.server_name if tls else ""
    return [
        ("grpc.max_reconnect_backoff_ms", 5000),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # `http_proxy` is about other machines.
        ("grpc.enable_http_proxy", 0 if to.is_local else 1),
        *([("grpc.ssl_target_name_override", name)] if name else []),
    ]


def credentials(tls: Tls | None) -> grpc.ChannelCredentials:
    """Returns what a channel with TLS trusts and shows.

    Raises:
        OSError: a file of `tls` cannot be read.
    """
    tls = tls or Tls()
    return grpc.ssl_channel_credentials(
        _content(tls.root_certificates), _content(tls.private_key), _content(tls.certificate)
    )


def _content(file: str | os.PathLike[str] | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def headers(api_key: str) -> tuple[tuple[str, str], ...]:
    """Returns the headers of every call.

    Raises:
        ValueError: `api_key` has characters that no key has.
    """
    api_key = api_key.strip()  # a key that was read from a file has a line end
    if not api_key:
        return ()
    if TOKEN.fullmatch(api_key) is None:
        raise ValueError("api_key must be one word of ASCII characters, such as ic_...")
    return (("authorization", f"Bearer {api_key}"),)
