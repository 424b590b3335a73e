"""Envoy, configured as `up` does it, before a server that notes what reaches it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from image_categorizer_server.local.embedded import EmbeddedEnvoy
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import Supervisor
from image_categorizer_server.settings import Settings

from tests.support.up import free_port

READY_S = 20.0
PAGE = "/image_categorizer.v1.BatchService/ExportBatchResults"


@dataclass
class Upstream(grpc.GenericRpcHandler):
    """Answers every call with an empty message, one with a page of HTML; keeps the headers."""

    headers: list[dict[str, str]] = field(default_factory=list)

    def service(self, details):
        self.headers.append({str(name): str(value) for name, value in details.invocation_metadata})
        if details.method == PAGE:
            page = httpbody_pb2.HttpBody(content_type="text/html", data=b"<p>a page</p>")

            async def answers(request, context):
                yield page.SerializeToString()

            return grpc.unary_stream_rpc_method_handler(answers)

        async def answer(request, context):
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    def last(self) -> dict[str, str]:
        """Returns the headers of the last call."""
        return self.headers[-1]


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    port: int
    upstream: Upstream
    secrets: Path


@asynccontextmanager
async def running_gateway(
    folder: Path,
    settings: Settings,
    credentials: grpc.ServerCredentials | None = None,
    within_s: float = READY_S,
) -> AsyncIterator[Gateway]:
    """Runs Envoy and the server behind it.

    Args:
        folder: for their files.
        settings: of the gateway.
        credentials: of the server; None for no TLS between them.
        within_s: time until the gateway gets an answer from the server.

    Raises:
        OperatorError: it gets none.
    """
    installation = Installation(folder)
    installation.prepare()
    socket = installation.sockets / "server.sock"
    upstream = Upstream()
    server = grpc.aio.server(handlers=[upstream])
    if credentials is None:
        server.add_insecure_port(f"unix:{socket}")
    else:
        server.add_secure_port(f"unix:{socket}", credentials)
    port = free_port()
    supervisor = Supervisor(print, installation.logs)
    await server.start()
    try:
        envoy = EmbeddedEnvoy(installation, settings, port, [socket]).process()
        await supervisor.start(replace(envoy, ready_within_s=within_s))
        yield Gateway(port, upstream, installation.run / "secrets")
    finally:
        await supervisor.stop()
        await server.stop(0)
