"""Runs a whole installation in the foreground."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable

from image_categorizer_server.db.database import migrate, open_database
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.gateway import reachable_host
from image_categorizer_server.local.installation import Addresses, Installation
from image_categorizer_server.local.parts import EmbeddedRedis, Gateway, Postgres, Servers
from image_categorizer_server.local.supervisor import Part, Supervisor
from image_categorizer_server.local.workers import worker_key, worker_part
from image_categorizer_server.services import key as admin
from image_categorizer_server.settings import Settings

Say = Callable[[str], None]
LONG_S = 5.0


async def run(installation: Installation, settings: Settings, port: int, say: Say) -> None:
    """Starts everything, and stops it on SIGINT, SIGTERM or SIGHUP.

    `DATABASE_URL` and `REDIS_URL`, where the environment states them, are used in place of parts of
    our own.

    Raises:
        OperatorError: a part does not start, the port is taken, or another `up` runs.
    """
    refuse_taken_port(settings.gateway.host, port)
    installation.prepare()
    with installation.locked():
        supervisor = Supervisor(installation.logs, installation.run / "parts.json", say)
        if ended := supervisor.end_orphans():
            say(f"Ended {ended} processes that an interrupted run had left.")
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await supervisor.run(_start_and_watch(installation, settings, port, supervisor, say), stop)
    say("Stopped.")


def refuse_taken_port(host: str, port: int) -> None:
    """Passes a port that is free.

    Raises:
        OperatorError: it is taken, or may not be used.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OperatorError(
                f"Cannot use port {port} of {host}: {error.strerror}; choose another with --port."
            ) from None


async def _start_and_watch(
    installation: Installation, settings: Settings, port: int, supervisor: Supervisor, say: Say
) -> None:
    addresses = await _start_stores(installation, settings, port, supervisor, say)
    installation.write_addresses(addresses)
    await migrate(addresses.database_url, settings.database)
    environment = {
        "DATABASE_URL": addresses.database_url,
        "REDIS_URL": addresses.redis_url,
        "MODEL_PATH": str(addresses.model_path),
        "CATEGORIZER_STORAGE__PATH": str(addresses.storage_path),
        "CATEGORIZER_LOG_FORMAT": os.environ.get("CATEGORIZER_LOG_FORMAT", "console"),
    }
    servers = Servers(installation, settings)
    note = "models are exported the first time, which takes a while"
    await _timed(say, "server", note, lambda: supervisor.start(*servers.parts(environment)))
    gateway = Gateway(installation, settings, port, servers.sockets)
    await _timed(say, "gateway", "", lambda: supervisor.start(gateway.part()))
    worker = await _worker(installation, settings, addresses, servers, environment)
    await _timed(say, "worker", "", lambda: supervisor.start(worker))
    await _announce(addresses, settings, installation, say)
    await supervisor.watch()


async def _start_stores(
    installation: Installation, settings: Settings, port: int, supervisor: Supervisor, say: Say
) -> Addresses:
    """Starts PostgreSQL and Redis, unless the environment names them; returns all addresses."""
    postgres, redis = Postgres(installation), EmbeddedRedis(installation)
    own_database, own_redis = "DATABASE_URL" not in os.environ, "REDIS_URL" not in os.environ

    async def start_postgres() -> None:
        await supervisor.start(await postgres.part())
        await postgres.create_database()

    starts = []
    if own_database:
        starts.append(_timed(say, "postgres", "", start_postgres))
    if own_redis:
        starts.append(_timed(say, "redis", "", lambda: supervisor.start(redis.part())))
    await asyncio.gather(*starts)
    host = reachable_host(settings.gateway.host, "localhost")
    return Addresses(
        base_url=f"http://{host}:{port}",
        database_url=postgres.url if own_database else settings.database_url,
        redis_url=redis.url if own_redis else settings.redis_url,
        model_path=installation.model_path,
        storage_path=installation.storage_path,
    )


async def _worker(
    installation: Installation,
    settings: Settings,
    addresses: Addresses,
    servers: Servers,
    environment: dict[str, str],
) -> Part:
    """Returns the worker; it calls a lone server directly, several through the gateway."""
    sockets = servers.sockets
    base_url = f"unix:{sockets[0]}" if len(sockets) == 1 else addresses.base_url
    api_key = await worker_key(installation, addresses.database_url, settings.database)
    calls = {"CATEGORIZER_CLIENT__BASE_URL": base_url, "CATEGORIZER_CLIENT__API_KEY": api_key}
    alive = installation.run / "worker.alive"
    return worker_part("worker", alive, settings, {**environment, **calls})


async def _announce(
    addresses: Addresses, settings: Settings, installation: Installation, say: Say
) -> None:
    url = addresses.base_url
    say(
        f"\nListening on {url} (REST, gRPC, gRPC-web). "
        f"Logs are in {installation.logs}; Ctrl-C stops."
    )
    async with open_database(addresses.database_url, settings.database):
        if any(
            key.role is Role.ADMIN and key.revoke_time is None for key in await admin.list_keys()
        ):
            say(
                "The admin key was shown at the first start; "
                "`image-categorizer create-admin` makes another."
            )
            return
        secret = (await admin.create_key("first admin", Role.ADMIN)).secret
    say(f"\nAdmin key, shown only this once:\n\n    {secret}\n")
    say(
        f"Try it:\n\n    curl -H 'Authorization: Bearer {secret}' "
        f"-F image=@photo.jpg {url}/v1/classify\n"
    )


async def _timed(say: Say, name: str, note: str, start: Callable[[], Awaitable[None]]) -> None:
    """Runs `start`; says why it takes long where it does, and how long it took."""
    start_s = time.monotonic()
    explanation = asyncio.get_running_loop().call_later(
        LONG_S, lambda: say(f"  {name} is starting{note and f': {note}'}")
    )
    try:
        await start()
    finally:
        explanation.cancel()
    say(f"  {name:<9} ready after {time.monotonic() - start_s:.1f} s")
