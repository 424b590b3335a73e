"""Certificates: an authority of one's own, and what it issues.

An authority that exists is used again, so that those who trust it go on doing so; what it issues
is made anew.  Files are moved to their place, the key first, so that none is seen half written;
whoever watches the certificate finds its key there.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from image_categorizer_server import clock
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.encryption import InternalTlsSettings

AUTHORITY_LIFE = timedelta(days=3650)
# Apple's systems accept at most 825 days from an authority that a user added.
LIFE = timedelta(days=397)
# Clocks of other machines may be slow.
BEFORE = timedelta(hours=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - only compared with
WORKER_NAME = "worker.image-categorizer.internal"
PUBLIC = "localhost"
"""Name of the files of a certificate for development."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def create_internal(folder: Path, settings: InternalTlsSettings) -> None:
    """Makes the certificates that gateway, workers and server show each other.

    Raises:
        OperatorError: the folder cannot be written, or holds a damaged authority.
    """
    authority = _authority(folder, "Image Categorizer internal")
    # The server's own probe is a client.
    _issue(authority, folder, "server", [settings.server_name], (SERVER, CLIENT))
    _issue(authority, folder, "gateway", [settings.gateway_name], (CLIENT,))
    _issue(authority, folder, "worker", [WORKER_NAME], (CLIENT,))


def with_development_certificate(settings: Settings, folder: Path) -> Settings:
    """Returns the settings with a certificate for this machine, which only its users trust.

    Raises:
        OperatorError: the folder cannot be written, or holds a damaged authority.
    """
    authority = _authority(folder, f"Image Categorizer on {socket.gethostname()}"[:64])
    host = settings.gateway.host
    own = () if host in EVERYWHERE else (host,)
    names = dict.fromkeys(("localhost", "127.0.0.1", "::1", socket.gethostname(), *own))
    _issue(authority, folder, PUBLIC, names, (SERVER,))
    files = {
        "tls_cert_path": str(folder / f"{PUBLIC}.pem"),
        "tls_key_path": str(folder / f"{PUBLIC}-key.pem"),
    }
    gateway = settings.gateway.model_copy(update=files)
    return settings.model_copy(update={"gateway": gateway})


def names_of(certificate_file: Path) -> list[str]:
    """Returns the DNS names and addresses of the first certificate of a PEM file.

    Raises:
        OperatorError: the file is not a certificate with such names.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except OSError as error:
        raise OperatorError(f"Cannot read {certificate_file}: {error.strerror}.") from None
    except (ValueError, x509.ExtensionNotFound):
        raise OperatorError(
            f"{certificate_file} is not a PEM file of a certificate with subject alternative names."
        ) from None
    addresses = map(str, extension.value.get_values_for_type(x509.IPAddress))
    return [*extension.value.get_values_for_type(x509.DNSName), *addresses]


def _authority(folder: Path, name: str) -> Authority:
    certificate_file, key_file = folder / "ca.pem", folder / "ca-key.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if certificate_file.exists() and key_file.exists():
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise OperatorError(f"{key_file} is not a key that this program has made.")
            return Authority(certificate, key)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            _builder(subject, subject, key.public_key(), AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        _write(certificate_file, _pem(certificate), 0o644)
        _write(key_file, _key_pem(key), 0o600)
    except OSError as error:
        raise OperatorError(f"Cannot write {error.filename}: {error.strerror}.") from None
    except ValueError:
        raise OperatorError(f"{certificate_file} or {key_file} is damaged: remove both.") from None
    return Authority(certificate, key)


def _issue(
    authority: Authority,
    folder: Path,
    file_name: str,
    names: Iterable[str],
    purposes: Iterable[ObjectIdentifier],
) -> None:
    """Writes `<file_name>.pem` and `<file_name>-key.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    certificate = (
        _builder(_named(file_name), issuer.subject, key.public_key(), LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general, names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]  # an elliptic curve's
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    try:
        _write(folder / f"{file_name}-key.pem", _key_pem(key), 0o600)
        _write(folder / f"{file_name}.pem", _pem(certificate), 0o644)
    except OSError as error:
        raise OperatorError(f"Cannot write {error.filename}: {error.strerror}.") from None


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + life)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(file: Path, content: bytes, mode: int) -> None:
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as written:
        written.write(content)
    new.replace(file)
