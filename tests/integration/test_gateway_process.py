"""The gateway on its own, `image-categorizer gateway`: what it configures, and how it ends."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest

from tests.support.polling import eventually
from tests.support.up import free_port

START_S = 20.0


class Waiting(grpc.GenericRpcHandler):
    """A server whose calls begin, and end when they are let go."""

    def __init__(self):
        self.began, self.let_go = asyncio.Event(), asyncio.Event()

    def service(self, details):
        async def answer(request, context):
            self.began.set()
            await self.let_go.wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def waiting_server():
    waiting = Waiting()
    server = grpc.aio.server(handlers=[waiting])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield waiting, port
    await server.stop(0)


@asynccontextmanager
async def gateway(folder, variables):
    """Runs the command. Yields the process."""
    words = [sys.executable, "-m", "image_categorizer_server", "gateway", str(folder)]
    environment = {**os.environ, **variables}
    process = await asyncio.create_subprocess_exec(*words, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("admin", ["port", "socket"])
async def test_a_gateway_that_stops_lets_its_calls_end(tmp_path, admin):
    port = free_port()
    async with waiting_server() as (waiting, server_port):
        is_socket = admin == "socket"
        variables = {
            "CATEGORIZER_GATEWAY__PORT": str(port),
            "CATEGORIZER_GATEWAY__SERVERS": f'["127.0.0.1:{server_port}"]',
            "CATEGORIZER_GATEWAY__ADMIN_BIND": (
                f"unix:{tmp_path}/admin.sock" if is_socket else f"127.0.0.1:{free_port()}"
            ),
            "CATEGORIZER_GATEWAY__ADDRESS_GROUPS": "2",
            # Envoy itself answers `/` then.
            "CATEGORIZER_GATEWAY__DASHBOARD": "false",
        }
        url = f"http://127.0.0.1:{port}"
        async with gateway(tmp_path / "gateway", variables) as process, httpx.AsyncClient() as http:

            async def has_home():
                try:
                    return (await http.get(url)).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(has_home, START_S, 0.1)
            async with asyncio.TaskGroup() as group:
                call = group.create_task(http.get(f"{url}/healthz", timeout=START_S))
                await waiting.began.wait()
                process.send_signal(signal.SIGTERM)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await process.wait()
                waiting.let_go.set()
            assert call.result().status_code == 200
            async with asyncio.timeout(START_S):
                assert await process.wait() == 0


async def test_what_ends_envoy_early_is_an_error(tmp_path):
    variables = {
        "CATEGORIZER_GATEWAY__ADMIN_BIND": f"unix:{tmp_path}/missing/admin.sock",
        "CATEGORIZER_GATEWAY__ADDRESS_GROUPS": "2",
        # Envoy itself answers `/` then.
        "CATEGORIZER_GATEWAY__DASHBOARD": "false",
    }
    async with gateway(tmp_path / "gateway", variables) as process:
        async with asyncio.timeout(START_S):
            assert await process.wait() == 1
