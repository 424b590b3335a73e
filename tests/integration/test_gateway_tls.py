"""TLS of the gateway, towards clients and servers: real Envoy, as `up` configures it."""

import shutil
import ssl
from contextlib import closing

import httpx
import pytest
from cryptography import x509
from image_categorizer import AsyncImageCategorizationClient, Tls
from image_categorizer_server.local.certificates import (
    create_internal,
    with_development_certificate,
)
from image_categorizer_server.rpc.encryption import server_credentials
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.encryption import InternalTlsSettings

from tests.support import raw_http
from tests.support.gateway import running_gateway
from tests.support.polling import eventually

RELOADED_S = 10.0


@pytest.fixture
def certificates(tmp_path):
    """The folder of a certificate for this machine, whose authority is `ca.pem`."""
    return tmp_path / "certificates"


@pytest.fixture
def secured(certificates):
    """The settings of a gateway with TLS."""
    return with_development_certificate(Settings(gateway={"address_groups": 2}), certificates)


def context_of(certificates, **versions):
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, version in versions.items():
        setattr(context, name, version)
    return context


def handshake(port, context):
    """Returns the version, the protocol and the serial number of the certificate."""
    with (
        closing(raw_http.connected(port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
        return connection.version(), connection.selected_alpn_protocol(), shown.serial_number


async def test_rest_and_grpc_are_answered_with_tls(tmp_path, certificates, secured):
    async with running_gateway(tmp_path / "data", secured) as gateway:
        url = f"https://localhost:{gateway.port}"
        async with httpx.AsyncClient(verify=context_of(certificates)) as http:
            assert (await http.get(f"{url}/healthz")).status_code == 200
        tls = Tls(root_certificates=certificates / "ca.pem")
        async with AsyncImageCategorizationClient("ic_x", url, tls=tls) as client:
            await client.server_info()
        assert gateway.upstream.last()["authorization"] == "Bearer ic_x"


async def test_the_server_learns_that_the_client_used_tls(tmp_path, certificates, secured):
    async with running_gateway(tmp_path / "data", secured) as gateway:
        async with httpx.AsyncClient(verify=context_of(certificates)) as http:
            headers = {"x-forwarded-proto": "http"}
            await http.get(f"https://localhost:{gateway.port}/healthz", headers=headers)
        assert gateway.upstream.last()["x-forwarded-proto"] == "https"


async def test_only_tls_1_2_and_1_3_are_spoken_and_http_2_is_preferred(
    tmp_path, certificates, secured
):
    async with running_gateway(tmp_path / "data", secured) as gateway:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = context_of(certificates, minimum_version=version, maximum_version=version)
            assert handshake(gateway.port, context)[1] == "h2"
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old = context_of(
                certificates,
                minimum_version=ssl.TLSVersion.TLSv1_1,
                maximum_version=ssl.TLSVersion.TLSv1_1,
            )
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            handshake(gateway.port, old)
        status, _, _ = raw_http.http1(gateway.port, b"/healthz")
        assert status == raw_http.NO_ANSWER


async def test_a_new_certificate_is_used_without_a_restart(tmp_path, certificates, secured):
    async with running_gateway(tmp_path / "data", secured) as gateway:
        context = context_of(certificates)
        before = handshake(gateway.port, context)[2]
        with_development_certificate(Settings(), certificates)
        await eventually(lambda: handshake(gateway.port, context)[2] != before, RELOADED_S)


async def test_a_certificate_without_its_key_changes_nothing(tmp_path, certificates, secured):
    async with running_gateway(tmp_path / "data", secured) as gateway:
        context = context_of(certificates)
        before = handshake(gateway.port, context)[2]
        with_development_certificate(Settings(), tmp_path / "other")
        wrong = certificates / "new.pem"
        shutil.copy(tmp_path / "other" / "localhost.pem", wrong)
        wrong.replace(certificates / "localhost.pem")
        for _ in range(3):
            assert handshake(gateway.port, context)[2] == before


async def test_strict_transport_security_is_a_setting(tmp_path, certificates, secured):
    hsts = secured.gateway.model_copy(update={"hsts_max_age_s": 600})
    settings = secured.model_copy(update={"gateway": hsts})
    async with running_gateway(tmp_path / "data", settings) as gateway:
        async with httpx.AsyncClient(verify=context_of(certificates)) as http:
            answer = await http.get(f"https://localhost:{gateway.port}/healthz")
        assert answer.headers["strict-transport-security"] == "max-age=600"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tls_cert_path": "/a/cert.pem"}, "belong together"),
        ({"tls_cert_path": "/a/cert.pem", "tls_key_path": "/b/key.pem"}, "in one folder"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Settings(gateway=given)


@pytest.fixture
def internal(tmp_path):
    create_internal(tmp_path / "internal", InternalTlsSettings())
    return InternalTlsSettings(path=str(tmp_path / "internal"))


async def test_gateway_and_server_show_each_other_certificates(tmp_path, internal):
    settings = Settings(internal_tls=internal, gateway={"address_groups": 2})
    credentials = server_credentials(internal)
    async with running_gateway(tmp_path / "data", settings, credentials) as gateway:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{gateway.port}/healthz")
        assert answer.status_code == 200


async def test_the_gateway_trusts_no_other_server(tmp_path, internal):
    """Of the same authority, but with the name of a worker; and of another authority."""
    create_internal(tmp_path / "others", InternalTlsSettings())
    misnamed = internal.model_copy(update={"server_name": "worker.image-categorizer.internal"})
    foreign = InternalTlsSettings(path=str(tmp_path / "others"))
    for number, believed in enumerate((misnamed, foreign)):
        settings = Settings(internal_tls=believed, gateway={"address_groups": 2})
        with pytest.raises(Exception, match="not ready"):
            async with running_gateway(
                tmp_path / str(number), settings, server_credentials(internal), within_s=3
            ):
                pass


async def test_without_a_certificate_of_the_gateway_the_server_does_not_answer(tmp_path, internal):
    with pytest.raises(Exception, match="not ready"):
        async with running_gateway(
            tmp_path / "data", Settings(), server_credentials(internal), within_s=3
        ):
            pass
