"""An installation whose every connection is encrypted: `up --tls`, with certificates inside too."""

import ssl
from collections.abc import Iterator

import grpc
import httpx
import pytest
import trustme
from image_categorizer import CategorizerError, ImageCategorizationClient, Tls
from image_categorizer.v1 import health_pb2, health_pb2_grpc
from image_categorizer_server.access.key_encryption import new_key
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.stores.sealing import MAGIC

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import Up, command, free_port


@pytest.fixture(scope="module")
def internal(clean_environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("internal") / "certificates"
    assert command("certificates", "create", folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def secured(internal, tmp_path_factory) -> Iterator[Up]:
    variables = {
        "CATEGORIZER_INTERNAL_TLS__PATH": str(internal),
        "CATEGORIZER_GATEWAY__HSTS_MAX_AGE_S": "600",
        "CATEGORIZER_ENCRYPTION__KEYS": new_key(),
        "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
        "LOG_LEVEL": "DEBUG",
    }
    data = tmp_path_factory.mktemp("secured")
    running = Up(data, free_port(), variables, words=("--tls",))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def url(secured):
    return f"https://localhost:{secured.port}"


@pytest.fixture(scope="module")
def authority(secured):
    return secured.data / "certificates" / "ca.pem"


def batch_results(secured, url, authority):
    """Stores three images, and classifies them."""
    with ImageCategorizationClient(
        secured.shown_key(), url, tls=Tls(root_certificates=authority)
    ) as client:
        assert client.classify_image(jpeg()).category
        return list(client.classify_batch([(f"{n}.jpg", jpeg(seed=n)) for n in range(3)]))


def test_images_and_batches_are_classified(secured, url, authority):
    results = batch_results(secured, url, authority)
    assert [result.error for result in results] == [None] * 3
    stored = [file for file in (secured.data / "images").rglob("*") if file.is_file()]
    assert len(stored) == 3
    assert all(file.read_bytes().startswith(MAGIC) for file in stored)


@pytest.mark.slow
def test_keys_of_images_are_rotated_by_a_command(secured, url, authority):
    batch_results(secured, url, authority)  # makes the tenant's data key
    first, second = (
        secured.variables["CATEGORIZER_ENCRYPTION__KEYS"],
        command("encryption", "new-key"),
    )
    both = {"CATEGORIZER_ENCRYPTION__KEYS": f"{second.stdout.strip()},{first}"}
    for count in (1, 0):
        done = command("encryption", "rotate", "--data", secured.data, **both)
        assert done.returncode == 0, done.stderr
        assert f"{count} data keys" in done.stderr
    back = {"CATEGORIZER_ENCRYPTION__KEYS": f"{first},{second.stdout.strip()}"}
    assert command("encryption", "rotate", "--data", secured.data, **back).returncode == 0
    erased = command("encryption", "erase", "default", "--yes", "--data", secured.data)
    assert "Erased 1 data keys" in erased.stderr
    off = command("encryption", "rotate", "--data", secured.data)
    assert (off.returncode, "Encryption is off" in off.stderr) == (1, True)


def test_what_it_prints_shows_how_to_trust_it(secured, url, authority):
    (example,) = [line for line in secured.lines if line.startswith("    curl")]
    assert f"--cacert {authority}" in example
    assert f"{url}/v1/classify" in example
    assert any(f"Tls(root_certificates='{authority}')" in line for line in secured.lines)


def test_rest_needs_the_authority(secured, url, authority):
    context = ssl.create_default_context(cafile=authority)
    answer = httpx.get(f"{url}/healthz", verify=context)
    assert answer.headers["strict-transport-security"] == "max-age=600"
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{url}/healthz")
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://localhost:{secured.port}/healthz")


def test_the_sdk_needs_the_authority(secured, url):
    with (
        ImageCategorizationClient(secured.shown_key(), url, timeout_s=5) as client,
        pytest.raises(CategorizerError),
    ):
        client.server_info()


def test_the_command_line_finds_the_authority(secured, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    for words in (("classify", tmp_path / "a.jpg"), ("models", "list")):
        done = command(*words, "--data", secured.data)
        assert done.returncode == 0, done.stderr


def asked(secured, tls=None, address=""):
    """Asks the server itself; returns the status."""
    socket = f"unix:{Installation(secured.data).sockets}/server.sock"
    name = ("grpc.ssl_target_name_override", "server.image-categorizer.internal")
    channel = grpc.secure_channel(socket, tls, [name]) if tls else grpc.insecure_channel(socket)
    with channel:
        stub = health_pb2_grpc.HealthServiceStub(channel)
        try:
            stub.GetLiveness(
                health_pb2.GetLivenessRequest(),
                timeout=5,
                metadata=(("x-client-address", address),) if address else (),
            )
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def certificate_of(internal, party):
    ca, key, certificate = (
        (internal / name).read_bytes() for name in ("ca.pem", f"{party}-key.pem", f"{party}.pem")
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def test_the_server_answers_nobody_without_a_certificate(secured, internal):
    assert asked(secured) is grpc.StatusCode.UNAVAILABLE
    only_authority = grpc.ssl_channel_credentials((internal / "ca.pem").read_bytes())
    assert asked(secured, only_authority) is grpc.StatusCode.UNAVAILABLE


def test_only_the_gateway_says_where_a_client_is(secured, internal):
    """A worker has a certificate, too, but no say in this."""
    for party, address in (("worker", "192.0.2.2"), ("gateway", "192.0.2.1")):
        tls = certificate_of(internal, party)
        assert asked(secured, tls, address) is grpc.StatusCode.OK
    log = secured.data / "logs" / "server.log"
    wait_until(lambda: "client=192.0.2.1" in log.read_text())
    assert "client=192.0.2.2" not in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)  # starts an installation of its own
def test_a_certificate_of_one_s_own_may_name_another_host(
    clean_environment, tmp_path_factory, tmp_path
):
    """Commands, and workers that go through the gateway, know it by the name that it has."""
    authority, files = trustme.CA(), tmp_path_factory.mktemp("own")
    authority.cert_pem.write_to_path(files / "ca.pem")
    issued = authority.issue_cert("*.photos.example", "photos.example")
    issued.private_key_pem.write_to_path(files / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(files / "cert.pem", append=True)
    variables = {
        "CATEGORIZER_GATEWAY__TLS_CERT_PATH": str(files / "cert.pem"),
        "CATEGORIZER_GATEWAY__TLS_KEY_PATH": str(files / "key.pem"),
        "CATEGORIZER_CLIENT__ROOT_CERTIFICATES_PATH": str(files / "ca.pem"),
        "CATEGORIZER_SERVER__PROCESSES": "2",
        "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
    }
    running = Up(tmp_path_factory.mktemp("named"), free_port(), variables)
    running.start()
    try:
        (tmp_path / "a.jpg").write_bytes(jpeg())
        submitted = command("batch", "submit", tmp_path, "--data", running.data)
        assert submitted.returncode == 0, submitted.stderr
        batch_id = submitted.stdout.strip()
        watched = command("batch", "watch", batch_id, "--data", running.data)
        assert watched.returncode == 0, watched.stderr
    finally:
        assert running.stop() == 0
