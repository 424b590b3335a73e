"""Certificates that the program makes: for whom, of whom, and who reads the keys."""

import socket
import ssl

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.certificates import (
    create_internal,
    names_of,
    with_development_certificate,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.encryption import PARTIES, InternalTlsSettings


def shown(folder, name):
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())


def purposes(certificate):
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def trusts(authority, certificate, key, host):
    """Returns whether a client that trusts an authority accepts a server under a name."""
    client_end, server_end = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    calling = ssl.create_default_context(cafile=authority)
    client = calling.wrap_bio(client_end, server_end, server_hostname=host)
    server = serving.wrap_bio(server_end, client_end, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", socket.gethostname()])
def test_the_certificate_for_development_is_for_this_machine(tmp_path, host):
    gateway = with_development_certificate(Settings(), tmp_path / "new").gateway
    files = gateway.tls_cert_path, gateway.tls_key_path
    assert trusts(tmp_path / "new" / "ca.pem", *files, host)
    assert not trusts(tmp_path / "new" / "ca.pem", *files, "other.example")
    assert host in names_of(tmp_path / "new" / "localhost.pem")


def test_a_second_start_makes_a_new_certificate_of_the_same_authority(tmp_path):
    with_development_certificate(Settings(), tmp_path)
    authority, first = (tmp_path / "ca.pem").read_bytes(), shown(tmp_path, "localhost")
    with_development_certificate(Settings(), tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert shown(tmp_path, "localhost").serial_number != first.serial_number


def test_an_authority_vouches_for_server_gateway_and_workers(tmp_path):
    settings = InternalTlsSettings(path=str(tmp_path))
    create_internal(tmp_path, settings)
    for party in PARTIES:
        files = settings.files(party)
        shown(tmp_path, party).verify_directly_issued_by(shown(tmp_path, "ca"))
        serves = ExtendedKeyUsageOID.SERVER_AUTH in purposes(shown(tmp_path, party))
        assert serves is (party == "server")
        assert names_of(files.certificate) == [f"{party}.image-categorizer.internal"]


def test_only_the_owner_reads_keys_and_nothing_is_left_over(tmp_path):
    folder = tmp_path / "internal"
    create_internal(folder, InternalTlsSettings())
    keys = sorted(path.name for path in folder.glob("*-key.pem"))
    assert keys == ["ca-key.pem", "gateway-key.pem", "server-key.pem", "worker-key.pem"]
    assert {(folder / key).stat().st_mode & 0o777 for key in keys} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 8


@pytest.mark.parametrize("file", ["ca.pem", "ca-key.pem"])
def test_a_damaged_authority_is_refused(tmp_path, file):
    create_internal(tmp_path, InternalTlsSettings())
    (tmp_path / file).write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(OperatorError, match=r"ca-key\.pem is damaged"):
        create_internal(tmp_path, InternalTlsSettings())


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    (tmp_path / "x.pem").write_text("not a certificate")
    with pytest.raises(OperatorError, match=r"x\.pem is not a PEM file"):
        names_of(tmp_path / "x.pem")
    with pytest.raises(OperatorError, match=r"Cannot read .*y\.pem"):
        names_of(tmp_path / "y.pem")
