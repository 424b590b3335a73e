"""Asks a server of this machine whether it is ready.  Imports little: probes are frequent."""

import grpc
from image_categorizer.v1 import health_pb2, health_pb2_grpc

from image_categorizer_server.rpc.encryption import probe_channel
from image_categorizer_server.settings.encryption import InternalTlsSettings

PROBE_TIMEOUT_S = 2.0
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - only looked up


async def is_ready(address: str, internal_tls: InternalTlsSettings | None = None) -> bool:
    """Returns whether the server at `host:port` or `unix:/path` would answer a classification.

    Args:
        address: of the server.
        internal_tls: with the server's certificates; None for a server without TLS.

    Raises:
        OSError: a certificate cannot be read.
    """
    async with probe_channel(address, internal_tls or InternalTlsSettings()) as channel:
        try:
            stub = health_pb2_grpc.HealthServiceStub(channel)
            await stub.GetReadiness(health_pb2.GetReadinessRequest(), timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
    return True


def reachable(bind: str) -> str:
    """Returns the address at which this machine reaches a server that listens on `bind`."""
    host, _, port = bind.rpartition(":")
    return f"{LOOPBACKS.get(host, host)}:{port}"
