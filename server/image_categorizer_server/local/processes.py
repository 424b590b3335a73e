"""Several server processes on one machine: what each gets of it, and how they share a port.

The kernel hands each new connection to one of them (SO_REUSEPORT).  That spreads connections, not
requests: clients that keep few connections open, as gateways do, need an address for each process,
as `image-categorizer up` gives them.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.supervisor import STOP_S, Part, Supervisor
from image_categorizer_server.rpc.probe import is_ready
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.inference import cores
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - only ever looked up
ONE_OF_MANY = "--one-of-many"


def server_part(name: str, address: str, settings: Settings, environment: dict[str, str]) -> Part:
    """Returns one server process; it is ready when its models are warm.

    Args:
        name: of the part.
        address: where it answers.
        settings: ours.
        environment: settings in which it differs from our own environment.
    """
    command = [sys.executable, "-m", "image_categorizer_server", "serve"]
    count = settings.server.processes
    own = {}
    if count > 1:
        command.append(ONE_OF_MANY)
        own["CATEGORIZER_INFERENCE__CORES"] = str(
            settings.inference.cores or max(1, cores() // count)
        )
    return Part(
        name=name,
        command=command,
        is_ready=lambda: is_ready(address),
        ready_within_s=settings.models.export_timeout_s,
        stop_within_s=settings.server.drain_notice_s + settings.server.drain_s + STOP_S,
        environment={**os.environ, **own, **environment},
    )


async def serve_together(settings: Settings) -> None:
    """Runs the processes until SIGTERM or SIGINT, then drains all; a second signal kills them.

    Raises:
        OperatorError: the port is taken, or the first process does not start.
    """
    supervisor = Supervisor(None, None, log.warning)
    stop = asyncio.Event()

    def stopped() -> None:
        if stop.is_set():
            supervisor.kill()
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
    with reserved(settings.server.bind) as bind:
        host, _, port = bind.rpartition(":")
        parts = [
            server_part(
                f"server-{n}",
                f"{LOOPBACKS.get(host, host)}:{port}",
                settings,
                {"CATEGORIZER_SERVER__BIND": bind},
            )
            for n in range(1, settings.server.processes + 1)
        ]

        async def work() -> None:
            await supervisor.start(*parts)
            log.info("all processes are ready", address=bind, processes=len(parts))
            await supervisor.watch()

        await supervisor.run(work(), stop)


@contextmanager
def reserved(bind: str) -> Iterator[str]:
    """Holds a port that several processes will share, so that it stays ours while one is restarted.

    Yields the address, with the port that the system chose where `bind` asks for port 0.

    Raises:
        OperatorError: another program has the port, or it is a unix socket.
    """
    if bind.startswith("unix:"):
        raise OperatorError(
            f"Several processes cannot share the unix socket {bind}; let CATEGORIZER_SERVER__BIND "
            "be host:port, or CATEGORIZER_SERVER__PROCESSES 1."
        )
    host, _, port = bind.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Without SO_REUSEPORT first: with it one would join a stranger's port in silence.
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        holder = socket.socket(family, kind, protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
    except OSError as error:
        raise OperatorError(f"Cannot listen on {bind}: {error.strerror}.") from None
    with holder:
        yield f"{host}:{holder.getsockname()[1]}"
