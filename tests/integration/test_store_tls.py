"""TLS to PostgreSQL and Redis: real ones, behind a proxy that ends TLS as they do."""

import asyncio
import ssl
import struct
from contextlib import asynccontextmanager, closing, suppress
from urllib.parse import quote

import pytest
import trustme
from image_categorizer_server.db.database import check_database, check_login, open_database
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import DatabaseSettings, RedisSettings
from image_categorizer_server.stores.redis import open_redis
from image_categorizer_server.tasks import TaskOwner

QUICK = DatabaseSettings(timeout_s=5)
# PostgreSQL's protocol, "SSLRequest": what a client sends before TLS.
SSL_REQUEST = struct.pack("!II", 8, 80877103)
CHUNK_BYTES = 65_536


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("trusted") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


async def _pump(reader, writer):
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def tls_before(socket_path, authority, name, is_postgres):
    """Ends TLS before a unix socket. Yields the port, and how many connections were encrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    encrypted = []

    async def serve(reader, writer):
        with closing(writer), suppress(OSError, EOFError):
            if is_postgres:
                assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
                writer.write(b"S")
                await writer.start_tls(context)
            encrypted.append(writer.get_extra_info("cipher"))
            up_reader, up_writer = await asyncio.open_unix_connection(socket_path)
            with closing(up_writer):
                async with TaskOwner() as tasks:
                    tasks.start(_pump(reader, up_writer), "pump")
                    await _pump(up_reader, writer)

    async with TaskOwner() as connections:
        server = await asyncio.start_server(
            lambda *ends: connections.start(serve(*ends), "connection"),
            *("127.0.0.1", 0),
            ssl=None if is_postgres else context,
        )
        try:
            yield server.sockets[0].getsockname()[1], encrypted
        finally:
            server.close()
            await connections.close()


@asynccontextmanager
async def postgres(stores, authority, name):
    socket_path = f"{stores.installation.sockets}/postgres/.s.PGSQL.5432"
    async with tls_before(socket_path, authority, name, is_postgres=True) as (port, encrypted):
        yield f"postgres://postgres@localhost:{port}/image_categorizer?sslmode=", encrypted


async def passes(url):
    """Queries as the server does: by the pool and by a login of its own."""
    async with open_database(url, QUICK):
        await check_database()
    await check_login(url, QUICK.timeout_s)


async def test_postgresql_is_verified_if_its_address_says_so(stores, authority, ca):
    async with postgres(stores, authority, "localhost") as (url, encrypted):
        await passes(f"{url}verify-full&sslrootcert={quote(str(ca))}")
        await migrate(f"{url}verify-full&sslrootcert={quote(str(ca))}", QUICK)
        assert len(encrypted) >= 3
        assert all(encrypted)


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
async def test_another_host_s_certificate_is_not_postgresql(stores, authority, ca, name):
    async with postgres(stores, authority, name) as (url, _):
        verified = f"{url}verify-full&sslrootcert={quote(str(ca))}"
        with pytest.raises(DependencyDown):
            await passes(verified)
        with pytest.raises(OperatorError):
            await migrate(verified, QUICK)
        await passes(f"{url}verify-ca&sslrootcert={quote(str(ca))}")


async def test_an_unknown_authority_is_not_believed(stores, ca):
    async with postgres(stores, trustme.CA(), "localhost") as (url, _):
        with pytest.raises(DependencyDown):
            await passes(f"{url}verify-full&sslrootcert={quote(str(ca))}")
        await passes(f"{url}require")


async def test_a_server_without_tls_is_refused_if_it_is_required(stores, ca):
    async def refuse(reader, writer):
        with closing(writer):
            await reader.readexactly(len(SSL_REQUEST))
            writer.write(b"N")

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(DependencyDown):
            await passes(f"postgres://postgres@localhost:{port}/x?sslmode=require")
    finally:
        server.close()


@pytest.mark.parametrize(
    ("name", "trusts", "answers"),
    [("localhost", True, True), ("other.example", True, False), ("localhost", False, False)],
)
async def test_redis_is_verified_by_authority_and_host(
    stores, authority, ca, name, trusts, answers
):
    issuer = authority if trusts else trustme.CA()
    socket_path = f"{stores.installation.sockets}/redis.sock"
    async with tls_before(socket_path, issuer, name, is_postgres=False) as (port, encrypted):
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={quote(str(ca))}"
        async with open_redis(url, RedisSettings()) as redis:
            if answers:
                await redis.check()
                assert encrypted
            else:
                with pytest.raises(DependencyDown):
                    await redis.check()
