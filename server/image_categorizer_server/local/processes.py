"""Server and worker processes, one or several on one machine.

Several servers share a port: the kernel distributes new connections among them (SO_REUSEPORT). It
distributes connections, not requests. Clients with few connections, such as gateways, need a
separate address for each process, as in `image-categorizer up`.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.model_process import check_platform, is_listening
from image_categorizer_server.local.supervisor import STOP_S, ManagedProcess, Supervisor
from image_categorizer_server.rpc.probe import is_ready, reachable
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.inference import cores
from image_categorizer_server.tasks import stop_on_signals
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
ONE_OF_MANY = "--one-of-many"
MODEL_PROCESS = "model-process"
WORKER_READY_S = 60.0
MODEL_PROCESS_READY_S = 60.0


def server_names(settings: Settings) -> list[str]:
    """Returns the names of the server processes."""
    count = settings.server.processes
    return ["server"] if count == 1 else [f"server-{n}" for n in range(1, count + 1)]


def metrics_bind(settings: Settings, number: int) -> dict[str, str]:
    """Returns the environment variable of one of several processes, counted from 0."""
    return {
        "CATEGORIZER_TELEMETRY__METRICS_BIND": settings.telemetry.nth_metrics_bind(number),
    }


def has_several_processes(settings: Settings) -> bool:
    """Returns whether a server consists of several processes."""
    return settings.server.processes > 1 or settings.server.model_process


def model_processes(
    socket_path: Path, settings: Settings, environment: dict[str, str]
) -> tuple[list[ManagedProcess], dict[str, str]]:
    """Returns the process that runs the models, if there is one.

    Args:
        socket_path: where it listens.
        settings: settings of the installation.
        environment: environment variables to add to ours.

    Returns:
        One process or none, and environment variables of the server processes that use it.

    Raises:
        OperatorError: this system cannot run it.
    """
    if not settings.server.model_process:
        return [], {}
    check_platform()
    address = {"CATEGORIZER_INFERENCE__MODEL_SOCKET": str(socket_path)}
    process = ManagedProcess(
        name=MODEL_PROCESS,
        command=[sys.executable, "-m", "image_categorizer_server", MODEL_PROCESS],
        is_ready=lambda: is_listening(str(socket_path)),
        ready_within_s=MODEL_PROCESS_READY_S,
        environment={**os.environ, **environment, **address},
    )
    return [process], address


def server_process(
    name: str, address: str, settings: Settings, environment: dict[str, str]
) -> ManagedProcess:
    """Returns a server process. It is ready when its models are warm.

    Args:
        name: name of the process.
        address: where it answers.
        settings: settings of the installation.
        environment: environment variables to add to ours.
    """
    command = [sys.executable, "-m", "image_categorizer_server", "serve"]
    count = settings.server.processes
    share = {}
    if has_several_processes(settings):
        command.append(ONE_OF_MANY)
    if count > 1:
        share["CATEGORIZER_INFERENCE__CORES"] = str(
            settings.inference.cores or max(1, cores() // count)
        )
    return ManagedProcess(
        name=name,
        command=command,
        is_ready=lambda: is_ready(address, settings.internal_tls),
        ready_within_s=settings.models.export_timeout_s,
        stop_within_s=settings.server.drain_notice_s + settings.server.drain_s + STOP_S,
        environment={**os.environ, **share, **environment},
    )


def worker_process(
    name: str, alive: Path, settings: Settings, environment: dict[str, str]
) -> ManagedProcess:
    """Returns a worker process. It is ready when it looks for work.

    Args:
        name: name of the process.
        alive: file that the process touches while it runs.
        settings: settings of the installation.
        environment: environment variables to add to ours.
    """
    alive.unlink(missing_ok=True)

    async def is_alive() -> bool:
        return alive.exists()  # noqa: ASYNC240 - takes microseconds

    return ManagedProcess(
        name=name,
        command=[sys.executable, "-m", "image_categorizer_workers"],
        is_ready=is_alive,
        ready_within_s=WORKER_READY_S,
        stop_within_s=settings.worker.grace_s + STOP_S,
        environment={
            **os.environ,
            **environment,
            "CATEGORIZER_WORKER__ALIVE_PATH": str(alive),
        },
    )


async def run_servers(settings: Settings) -> None:
    """Runs several servers on one port until SIGTERM or SIGINT, then drains them.

    Restarts a process that ends. A second signal kills all processes.

    Raises:
        OperatorError: the port is taken, or the first process does not start.
    """
    with (
        reserved(settings.server.bind) as bind,
        tempfile.TemporaryDirectory(prefix="image-categorizer-models-") as folder,
    ):
        address = reachable(bind)
        first, variables = model_processes(Path(folder, "models.sock"), settings, {})
        environment = {"CATEGORIZER_SERVER__BIND": bind, **variables}
        servers = [
            server_process(name, address, settings, {**environment, **metrics_bind(settings, n)})
            for n, name in enumerate(server_names(settings))
        ]
        await _run(first, servers)


async def run_workers(settings: Settings, environment: dict[str, str]) -> None:
    """Runs `WORKER_COUNT` workers until SIGTERM or SIGINT.

    Restarts a process that ends. A second signal kills all processes.

    Args:
        settings: settings of the installation.
        environment: environment variables to add to ours.

    Raises:
        OperatorError: the first process does not start.
    """
    with tempfile.TemporaryDirectory(prefix="image-categorizer-workers-") as folder:
        names = [f"worker-{n}" for n in range(1, settings.worker_count + 1)]
        workers = [
            worker_process(
                name, Path(folder, name), settings, {**environment, **metrics_bind(settings, n)}
            )
            for n, name in enumerate(names)
        ]
        await _run(workers)


async def _run(*groups: Sequence[ManagedProcess]) -> None:
    """Runs groups of processes, each started once the one before is ready."""
    supervisor = Supervisor(log.warning)
    stop = stop_on_signals(before_exit=supervisor.kill)

    async def start_and_watch() -> None:
        for group in groups:
            if group:
                await supervisor.start(*group)
        log.info("all processes are ready", processes=sum(map(len, groups)))
        await supervisor.watch()

    await supervisor.run(start_and_watch(), stop)


@contextmanager
def reserved(bind: str) -> Iterator[str]:
    """Reserves a port for several processes, so that it stays taken while one of them restarts.

    Yields the address. If `bind` has port 0, the address has the port that the system chose.

    Raises:
        OperatorError: another program uses the port, or the address is a unix socket.
    """
    if bind.startswith("unix:"):
        raise OperatorError(
            f"Several processes cannot share the unix socket {bind}. Set CATEGORIZER_SERVER__BIND "
            "to host:port, or CATEGORIZER_SERVER__PROCESSES to 1."
        )
    host, _, port = bind.rpartition(":")
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # First without SO_REUSEPORT, which would silently share another program's port.
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            holder = stack.enter_context(socket.socket(family, kind, protocol))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
        except OSError as error:
            raise OperatorError(f"Cannot listen on {bind}: {error.strerror}.") from None
        yield f"{host}:{holder.getsockname()[1]}"
