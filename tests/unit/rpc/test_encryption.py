"""TLS of the gRPC server: whom it admits, and with which certificate."""

import shutil
from contextlib import asynccontextmanager

import grpc
import pytest
from image_categorizer import Tls
from image_categorizer import _channel as sdk
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.certificates import create_internal
from image_categorizer_server.rpc.encryption import probe_channel, server_credentials, shows_name
from image_categorizer_server.settings.encryption import InternalTlsSettings

GATEWAY = "gateway.image-categorizer.internal"


class Echo(grpc.GenericRpcHandler):
    """Answers with the names in the certificate of the caller."""

    def service(self, details):
        async def answer(request, context):
            found = context.auth_context()
            return b"gateway" if shows_name(found, GATEWAY) else b"other"

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def internal(tmp_path):
    create_internal(tmp_path / "internal", InternalTlsSettings())
    return InternalTlsSettings(path=str(tmp_path / "internal"))


@asynccontextmanager
async def serving(internal):
    server = grpc.aio.server(handlers=[Echo()])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(internal))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def tls_of(internal, party):
    files = internal.files(party)
    return Tls(
        root_certificates=files.ca,
        certificate=files.certificate,
        private_key=files.key,
        server_name=internal.server_name,
    )


async def answer_to(address, tls):
    target = sdk.target(address, tls)
    assert target.is_secure
    options = sdk.channel_options(target, tls)
    async with grpc.aio.secure_channel(address, sdk.credentials(tls), options) as channel:
        return await channel.unary_unary("/a/b")(b"", timeout=5)


async def is_refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_callers_show_a_certificate_of_the_authority(internal, tmp_path):
    async with serving(internal) as address:
        assert await answer_to(address, tls_of(internal, "gateway")) == b"gateway"
        assert await answer_to(address, tls_of(internal, "worker")) == b"other"
        without = Tls(
            root_certificates=internal.files("worker").ca, server_name=internal.server_name
        )
        assert await is_refused(answer_to(address, without))
        create_internal(tmp_path / "others", InternalTlsSettings())
        foreign = InternalTlsSettings(path=str(tmp_path / "others"))
        stranger = Tls(
            root_certificates=internal.files("worker").ca,
            certificate=foreign.files("gateway").certificate,
            private_key=foreign.files("gateway").key,
            server_name=internal.server_name,
        )
        assert await is_refused(answer_to(address, stranger))
        async with grpc.aio.insecure_channel(address) as channel:
            assert await is_refused(channel.unary_unary("/a/b")(b"", timeout=5))


async def test_callers_know_the_server_by_its_name(internal):
    async with serving(internal) as address:
        files = internal.files("worker")
        tls = Tls(
            root_certificates=files.ca,
            certificate=files.certificate,
            private_key=files.key,
            server_name="other.internal",
        )
        assert await is_refused(answer_to(address, tls))


async def test_new_files_serve_the_next_connection(internal, tmp_path):
    async with serving(internal) as address:
        before = tls_of(internal, "gateway")
        assert await answer_to(address, before) == b"gateway"
        old = tmp_path / "old"
        shutil.copytree(internal.path, old)
        for name in ("ca.pem", "ca-key.pem"):
            (tmp_path / "internal" / name).unlink()
        create_internal(tmp_path / "internal", internal)
        assert await answer_to(address, tls_of(internal, "gateway")) == b"gateway"
        assert await is_refused(
            answer_to(address, tls_of(InternalTlsSettings(path=str(old)), "gateway"))
        )


async def test_files_that_do_not_fit_change_nothing_until_they_do(internal, tmp_path):
    async with serving(internal) as address:
        caller = tls_of(internal, "gateway")
        key = internal.files("server").key
        right = key.read_bytes()
        key.write_bytes(internal.files("worker").key.read_bytes())
        assert await answer_to(address, caller) == b"gateway"
        key.unlink()
        assert await answer_to(address, caller) == b"gateway"
        key.write_bytes(right)
        assert await answer_to(address, caller) == b"gateway"


async def test_the_probe_shows_the_certificate_of_the_server(internal):
    async with serving(internal) as address, probe_channel(address, internal) as channel:
        assert await channel.unary_unary("/a/b")(b"", timeout=5) == b"other"


@pytest.mark.parametrize("file", ["server.pem", "server-key.pem", "ca.pem"])
def test_a_missing_or_damaged_file_stops_the_start(internal, tmp_path, file):
    damaged = tmp_path / "internal" / file
    damaged.write_text("nothing")
    with pytest.raises(OperatorError, match="CATEGORIZER_INTERNAL_TLS__PATH"):
        server_credentials(internal)
    damaged.unlink()
    with pytest.raises(OperatorError, match=file):
        server_credentials(internal)
