"""Runs a whole installation in the foreground."""

import asyncio
import os
import secrets
import shlex
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from image_categorizer_server import clock
from image_categorizer_server.access.api_key import sha256_of
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.db.database import open_database
from image_categorizer_server.db.key import find_key
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.packaged import ensure_packaged
from image_categorizer_server.local.certificates import (
    names_of,
    with_development_certificate,
)
from image_categorizer_server.local.embedded import EmbeddedEnvoy, EmbeddedPostgres, EmbeddedRedis
from image_categorizer_server.local.gateway import reachable_host
from image_categorizer_server.local.installation import Addresses, Installation
from image_categorizer_server.local.processes import (
    metrics_bind,
    model_processes,
    server_names,
    server_process,
    worker_process,
)
from image_categorizer_server.local.supervisor import Supervisor
from image_categorizer_server.services import key as keys
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.hops import clear_hops
from image_categorizer_server.tasks import stop_on_signals

Say = Callable[[str], None]
# After this long, `up` says why a start takes time.
SLOW_START_S = 5.0
SECRET_BYTES = 32


async def run(
    installation: Installation, settings: Settings, port: int, say: Say, *, tls: bool = False
) -> bool:
    """Starts everything, and stops it on SIGINT, SIGTERM or SIGHUP.

    If the environment sets `DATABASE_URL` or `REDIS_URL`, that database or Redis is used instead of
    an embedded one.

    Args:
        installation: its data folder.
        settings: of all processes.
        port: the public port.
        say: receives sentences for the person who watches.
        tls: whether to make a certificate for development, and to serve with it.

    Returns whether everything had started before the end.

    Raises:
        OperatorError: a process does not start, the port is taken, or another `up` is running.
    """
    os.umask(0o077)  # for all that we and our processes write
    refuse_taken_port(settings.gateway.host, port)
    installation.prepare()
    with installation.locked():
        if tls:
            settings = with_development_certificate(settings, installation.certificates)
        if settings.environment == "production":
            for sentence in clear_hops(settings, is_gateway=True):
                say(f"Warning: {sentence}.")
        supervisor = Supervisor(say, installation.logs, installation.pid_file)
        if ended := supervisor.end_orphans():
            say(f"Ended {ended} processes left behind by an interrupted run.")
        stop = stop_on_signals(before_exit=supervisor.kill)
        # A closing terminal sends SIGHUP more than once. Unlike a second Ctrl-C, that is not a
        # request to stop at once.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
        up = _Up(installation, settings, port, supervisor, say)
        await supervisor.run(up.start_and_watch(), stop)
    say("Stopped.")
    return up.is_complete.is_set()


def refuse_taken_port(host: str, port: int) -> None:
    """Checks that a port is free.

    Raises:
        OperatorError: the port is taken, or we may not use it.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OperatorError(
                f"Cannot use port {port} of {host}: {error.strerror}. "
                "Choose another port with --port."
            ) from None


def reflects(settings: Settings) -> bool:
    """Returns whether servers answer reflection: if it is not set, except in production."""
    is_set = "reflection" in settings.server.model_fields_set
    return settings.server.reflection or not (is_set or settings.environment == "production")


def _name_of(certificate: str, host: str) -> str:
    """Returns a name that a certificate has; empty if it has that of the host."""
    names = names_of(Path(certificate))
    return "" if host in names else names[0].replace("*", "gateway", 1)


@dataclass(frozen=True, slots=True)
class _Up:
    """One run of an installation."""

    installation: Installation
    settings: Settings
    port: int
    supervisor: Supervisor
    say: Say
    is_complete: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once everything has started."""

    async def start_and_watch(self) -> None:
        addresses = await self._start_stores()
        self.installation.write_addresses(addresses)
        owner_url = addresses.owner_url or self.settings.database.owner_url
        database = self.settings.database.model_copy(update={"owner_url": owner_url})
        await migrate(addresses.database_url, database)
        environment = {
            "DATABASE_URL": addresses.database_url,
            "CATEGORIZER_DATABASE__OWNER_URL": "",  # what serves calls must not know it
            "REDIS_URL": addresses.redis_url,
            "MODEL_PATH": str(addresses.model_path),
            "CATEGORIZER_STORAGE__PATH": str(addresses.storage_path),
            **self._signing_key(),
            **self._subject_secret(),
            "CATEGORIZER_LOG_FORMAT": os.environ.get("CATEGORIZER_LOG_FORMAT", "console"),
        }
        await self._start_servers(addresses, environment)
        await self._announce(addresses)
        self.is_complete.set()
        await self.supervisor.watch()

    async def _start_stores(self) -> Addresses:
        """Starts PostgreSQL and Redis unless the environment names others."""
        postgres, redis = EmbeddedPostgres(self.installation), EmbeddedRedis(self.installation)
        own_database, own_redis = "DATABASE_URL" not in os.environ, "REDIS_URL" not in os.environ

        async def start_postgres() -> None:
            await self.supervisor.start(await postgres.process())
            await postgres.create_database()

        starts = [self._make_packaged_model()]
        if own_database:
            starts.append(self._timed("postgres", start_postgres))
        if own_redis:
            starts.append(self._timed("redis", lambda: self.supervisor.start(redis.process())))
        await asyncio.gather(*starts)
        host = reachable_host(self.settings.gateway.host, "localhost")
        certificate = self.settings.gateway.tls_cert_path
        return Addresses(
            base_url=f"{'https' if certificate else 'http'}://{host}:{self.port}",
            root_certificates_path=self._root_certificates(),
            server_name=_name_of(certificate, host) if certificate else "",
            database_url=postgres.url if own_database else self.settings.database_url,
            owner_url=postgres.owner_url if own_database else "",
            redis_url=redis.url if own_redis else self.settings.redis_url,
            model_path=self.installation.model_path,
            storage_path=self.installation.storage_path,
        )

    def _root_certificates(self) -> str:
        """Returns the file of those who vouch for the gateway; empty for the public ones."""
        own = self.installation.certificates
        if Path(self.settings.gateway.tls_cert_path).parent == own:
            return str(own / "ca.pem")
        return self.settings.client.root_certificates_path

    async def _start_servers(self, addresses: Addresses, environment: dict[str, str]) -> None:
        """Starts the servers, with the process of their models, the gateway and the worker."""
        installation, settings = self.installation, self.settings
        model_socket = installation.sockets / "models.sock"
        first, variables = model_processes(model_socket, settings, environment)
        if first:
            await self._timed("models", lambda: self.supervisor.start(*first))
        names = server_names(settings)
        sockets = [installation.sockets / f"{name}.sock" for name in names]
        servers = [
            server_process(
                name,
                f"unix:{path}",
                settings,
                {
                    **environment,
                    **variables,
                    **metrics_bind(settings, number),
                    "CATEGORIZER_SERVER__BIND": f"unix:{path}",
                    "CATEGORIZER_SERVER__IN_FLIGHT_PATH": str(installation.run),
                    "CATEGORIZER_SERVER__REFLECTION": str(reflects(settings)).lower(),
                },
            )
            for number, (name, path) in enumerate(zip(names, sockets, strict=True))
        ]
        await self._timed("server", lambda: self.supervisor.start(*servers))
        envoy = EmbeddedEnvoy(installation, settings, self.port, sockets).process()
        await self._timed("gateway", lambda: self.supervisor.start(envoy))
        # With several servers, the worker goes through the gateway, which balances its calls.
        calls = {"CATEGORIZER_CLIENT__API_KEY": await self._worker_key(addresses)}
        if len(sockets) == 1:
            calls["CATEGORIZER_CLIENT__BASE_URL"] = f"unix:{sockets[0]}"
        else:
            calls |= {
                "CATEGORIZER_CLIENT__BASE_URL": addresses.base_url,
                "CATEGORIZER_CLIENT__ROOT_CERTIFICATES_PATH": addresses.root_certificates_path,
                "CATEGORIZER_CLIENT__SERVER_NAME": addresses.server_name,
                "CATEGORIZER_INTERNAL_TLS__PATH": "",  # the gateway asks for no certificate
            }
        calls |= metrics_bind(settings, len(servers))
        worker = worker_process(
            "worker", installation.run / "worker.alive", settings, {**environment, **calls}
        )
        await self._timed("worker", lambda: self.supervisor.start(worker))

    @asynccontextmanager
    async def _database(self, addresses: Addresses) -> AsyncIterator[None]:
        """Opens the database for the keys of the installation."""
        with all_tenants():
            async with open_database(addresses.database_url, self.settings.database):
                yield

    def _signing_key(self) -> dict[str, str]:
        """Returns the variable that names the installation's key, unless the settings name one."""
        audit = self.settings.audit
        if audit.signing_key or audit.signing_key_file:
            return {}
        file = self.installation.audit_key
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(SigningKey.generate().pem())
        return {"CATEGORIZER_AUDIT__SIGNING_KEY_FILE": str(file)}

    def _subject_secret(self) -> dict[str, str]:
        """Returns the variable that names the installation's secret, unless the settings do."""
        privacy = self.settings.privacy
        if privacy.secret or privacy.secret_file:
            return {}
        file = self.installation.subject_secret
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(SECRET_BYTES))
        return {"CATEGORIZER_PRIVACY__SECRET_FILE": str(file)}

    async def _make_packaged_model(self) -> None:
        with suppress(OperatorError):  # the server tries again, and says what is wrong
            await ensure_packaged(self.settings.models)

    async def _worker_key(self, addresses: Addresses) -> str:
        """Returns the key that workers call the server with.

        The saved key is used if the database knows it, else a new one is created. Anyone who can
        read the installation's folder can read its database, so the key grants nothing new.
        """
        async with self._database(addresses):
            if secret := self.installation.saved_key(Role.WORKER):
                found = await find_key(sha256_of(secret))
                is_valid = found and found.is_valid(clock.now()) and not found.is_previous
                if found and is_valid and found.key.role is Role.WORKER:
                    return secret
            secret = (await keys.create_key("workers", Role.WORKER)).secret
        self.installation.save_key(Role.WORKER, secret)
        return secret

    async def _announce(self, addresses: Addresses) -> None:
        """Prints how to reach the installation and, at the first start, the admin key."""
        url = addresses.base_url
        self.say(
            f"\nListening on {url} (REST, gRPC, gRPC-web). "
            f"Logs are in {self.installation.logs}. Press Ctrl-C to stop."
        )
        if authority := addresses.root_certificates_path:
            file = shlex.quote(authority)
            self.say(
                f"Clients trust it by `curl --cacert {file}`, and in Python by "
                f"`ImageCategorizationClient(..., tls=Tls(root_certificates={authority!r}))`."
            )
        async with self._database(addresses):
            if await keys.has_active_key(Role.ADMIN):
                self.say(
                    "The admin key was shown at the first start. "
                    "Run `image-categorizer create-admin` to create another."
                )
                return
            secret = (await keys.create_key("first admin", Role.ADMIN)).secret
        self.say(f"\nAdmin key, shown only this once:\n\n    {secret}\n")
        trust = f"--cacert {shlex.quote(authority)} " if authority else ""
        self.say(
            f"Try it:\n\n    curl {trust}-H 'Authorization: Bearer {secret}' "
            f"-F image=@{shlex.quote(str(self.installation.example()))} {url}/v1/classify\n"
        )

    async def _timed(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Runs `start` and prints how long it took; if it is slow, also what it is doing."""
        start_s = time.monotonic()
        explanation = asyncio.get_running_loop().call_later(
            SLOW_START_S, lambda: self.say(f"  {name} is starting. {self.supervisor.doing(name)}")
        )
        try:
            await start()
        finally:
            explanation.cancel()
        self.say(f"  {name:<9} ready after {time.monotonic() - start_s:.1f} s")
