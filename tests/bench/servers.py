"""Starts our server and its peers, and runs one at a time.

All servers are started once. Those that are not being measured are stopped by SIGSTOP, so that
rounds can alternate without restarts, and idle loops of one server take no cores from another.
"""

import asyncio
import json
import os
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import psutil
from image_categorizer_server.bench.load import (
    Ask,
    Encode,
    grpc_clients,
    http_clients,
    http_request,
)
from image_categorizer_server.bench.prepare import pictures
from image_categorizer_server.bench.stage import PROGRAM, free_port
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.rpc.probe import is_ready

from tests.support.polling import elapsed, eventually

PEERS = Path(os.environ.get("BENCH_PEERS", ".build/peers")).resolve()
START_S = 120.0
START_INTERVAL_S = 0.3
STOP_S = 10.0
RESUME_S = 0.2


class Clients(Protocol):
    """Opens a number of clients of one server."""

    def __call__(self, count: int) -> AbstractAsyncContextManager[list[Ask]]: ...


@dataclass(frozen=True)
class Server:
    """A started server, which can be paused."""

    name: str
    clients: Clients
    process: psutil.Process

    def tree(self) -> list[psutil.Process]:
        """Returns the process and all its descendants."""
        return [self.process, *self.process.children(recursive=True)]

    def pause(self) -> None:
        """Stops all its processes."""
        for process in self.tree():
            process.suspend()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Resumes all its processes within the block."""
        for process in reversed(self.tree()):
            process.resume()
        await elapsed(RESUME_S)
        try:
            yield
        finally:
            self.pause()


@dataclass(frozen=True)
class Peer:
    """Another serving engine, and how to send requests to it."""

    name: str
    folder: str
    """Name of its virtual environment, and prefix of its app's module."""
    path: str
    health: str
    listens_by_argument: bool = False


LITSERVE = Peer("LitServe", "litserve", "/predict", "/health")
MOSEC = Peer("mosec", "mosec", "/inference", "/", listens_by_argument=True)
PYTRITON = Peer("PyTriton", "pytriton", "/v2/models/classify/infer", "/v2/models/classify/ready")
ALL_PEERS = (LITSERVE, MOSEC, PYTRITON)


def encoder(peer: Peer) -> Encode:
    """Returns a function that encodes a picture as a request to the peer. Caches each picture."""
    return cache(partial(_triton_request if peer is PYTRITON else _plain_request, peer.path))


def _plain_request(path: str, content: bytes) -> bytes:
    return http_request(path, "image/jpeg", content)


def _triton_request(path: str, content: bytes) -> bytes:
    """Encodes Triton's binary form: a JSON head, then 4 bytes of length and the bytes."""
    tensor = struct.pack("<I", len(content)) + content
    image = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(tensor)},
    }
    outputs = [{"name": "label", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [image], "outputs": outputs}).encode()
    length = f"inference-header-content-length: {len(head)}\r\n"
    return http_request(path, "application/octet-stream", head + tensor, length)


@asynccontextmanager
async def peer_server(peer: Peer, name: str, environment: dict[str, str]) -> AsyncIterator[Server]:
    """Runs a peer's app.

    Args:
        peer: the engine.
        name: name in the table.
        environment: `PEER_FORM` and its companions, see `peers/work.py`.

    Raises:
        OperatorError: its virtual environment is missing, or it does not start.
    """
    python = PEERS / peer.folder / "bin" / "python"
    if not python.exists():
        raise OperatorError(f"{peer.name}: {python} is missing. Run `make bench-peers`.")
    port = free_port()
    command = [str(python), "-m", f"tests.bench.peers.{peer.folder}_app"]
    if peer.listens_by_argument:
        command += ["--address", "127.0.0.1", "--port", str(port), "--timeout", "30000"]
    url = f"http://127.0.0.1:{port}{peer.health}"

    async def answers() -> bool:
        return await asyncio.to_thread(_is_ok, url)

    environment = {**environment, "PEER_PORT": str(port)}
    async with _process(name, command, environment, answers) as process:
        clients = partial(http_clients, f"127.0.0.1:{port}", encode=encoder(peer), read=lambda _: 0)
        yield Server(name, clients, process)


@dataclass(frozen=True)
class Traffic:
    """What the clients of our server ask for, and over how many connections."""

    model: str
    version: str = ""
    connections: int = 1


@asynccontextmanager
async def our_server(
    name: str, key: str, environment: dict[str, str], traffic: Traffic, address: str = ""
) -> AsyncIterator[Server]:
    """Runs `image-categorizer serve` on TCP, like the peers, until the model answers.

    Args:
        name: name in the table.
        key: API key.
        environment: settings.
        traffic: requests of the clients.
        address: where to listen; empty for any free port.

    Raises:
        OperatorError: it does not start.
    """
    address = address or f"127.0.0.1:{free_port()}"
    environment = {**environment, "CATEGORIZER_SERVER__BIND": address, "LOG_LEVEL": "WARNING"}
    command = [*PROGRAM, "serve"]
    clients = partial(grpc_clients, address, key, traffic.model, version=traffic.version)

    async def answers() -> bool:
        # A server is ready once its default model is, which is another one.
        if not await is_ready(address):
            return False
        async with clients(1) as (ask,):
            with suppress(RuntimeError):
                return await ask(pictures()[0]) > 0
        return False

    async with _process(name, command, environment, answers) as process:
        yield Server(name, partial(clients, connections=traffic.connections), process)


@asynccontextmanager
async def _process(
    name: str, command: list[str], environment: dict[str, str], ready: Callable[[], Awaitable[bool]]
) -> AsyncIterator[psutil.Process]:
    """Runs a program in its own session until the block ends."""
    log = Path(environment["BENCH_LOGS"]) / f"{name.replace(' ', '-').replace(',', '')}.log"
    with log.open("w") as output:
        started = await asyncio.create_subprocess_exec(
            *command,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    process = psutil.Process(started.pid)

    async def is_ready_or_over() -> bool:
        return started.returncode is not None or await ready()

    try:
        with suppress(AssertionError):
            await eventually(is_ready_or_over, START_S, START_INTERVAL_S)
        if started.returncode is not None or not await ready():
            lines = log.read_text().strip().splitlines() or ["it printed nothing"]
            raise OperatorError(f"{name} does not start: {lines[-1]}")
        yield process
    finally:
        await _end(process, started)


async def _end(process: psutil.Process, started: asyncio.subprocess.Process) -> None:
    if started.returncode is not None:
        return
    tree = [process, *process.children(recursive=True)]
    for each in tree:
        _send(each, "resume")
    _send(process, "terminate")
    with suppress(TimeoutError):
        await asyncio.wait_for(started.wait(), STOP_S)
    for each in tree:
        _send(each, "kill")
    await started.wait()


def _send(process: psutil.Process, signal: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, signal)()


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


async def start_paused(
    stack: AsyncExitStack, servers: Sequence[AbstractAsyncContextManager[Server]]
) -> tuple[list[Server], list[str]]:
    """Starts the servers one after the other and pauses each. Returns them, and errors."""
    started, missing = [], []
    for entering in servers:
        try:
            server = await stack.enter_async_context(entering)
        except OperatorError as error:
            missing.append(str(error))
            print(f"skipped: {error}", file=sys.stderr)
            continue
        server.pause()
        started.append(server)
        print(f"ready: {server.name}", file=sys.stderr)
    return started, missing
