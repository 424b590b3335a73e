"""TLS of the gRPC server, in which both sides show a certificate."""

import os
import ssl
from collections.abc import Iterable, Mapping

import grpc

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.encryption import CertificateFiles, InternalTlsSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
NAMES = "x509_subject_alternative_name"
Versions = tuple[tuple[int, int], ...]


def server_credentials(settings: InternalTlsSettings) -> grpc.ServerCredentials:
    """Returns credentials that admit only callers with a certificate of our authority.

    The files are looked at whenever a client connects. New ones serve from then on.

    Raises:
        OperatorError: a file cannot be read, or certificate and key do not belong together.
    """
    certificates = _Certificates(settings.files("server"))
    try:
        first = certificates.load()
    except (OSError, ValueError) as error:
        raise OperatorError(f"CATEGORIZER_INTERNAL_TLS__PATH: {_problem(error)}.") from None
    return grpc.dynamic_ssl_server_credentials(
        first,
        certificates.changed,  # type: ignore[arg-type]  # grpc documents None for no change
        require_client_authentication=True,
    )


def probe_channel(address: str, settings: InternalTlsSettings) -> grpc.aio.Channel:
    """Returns a channel to a server of this machine.

    With TLS it shows the server's own certificate, the only one that is sure to be here.

    Raises:
        OSError: a file cannot be read.
    """
    if not settings.path:
        return grpc.aio.insecure_channel(address)
    files = settings.files("server")
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    name = ("grpc.ssl_target_name_override", settings.server_name)
    return grpc.aio.secure_channel(address, credentials, [name])


def shows_name(auth_context: Mapping[str, Iterable[bytes]], name: str) -> bool:
    """Returns whether the certificate of a peer has a name.

    Args:
        auth_context: what gRPC knows about the peer.
        name: a DNS name.
    """
    return name.encode() in auth_context.get(NAMES, ())


class _Certificates:
    """The server's certificate, and the authority of its callers, as the files say."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._versions: Versions = ()

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Reads the files.

        Raises:
            OSError: a file cannot be read.
            ValueError: they are no certificate and its key, or were changed meanwhile.
        """
        files, versions = self._files, self._found()
        key, chain = files.key.read_bytes(), files.certificate.read_bytes()
        ca = files.ca.read_bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.ca)
        if self._found() != versions:
            raise ValueError("the files are being replaced")
        self._versions = versions
        return grpc.ssl_server_certificate_configuration([(key, chain)], ca)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Reads the files again if they have changed; None if they are as before, or wrong.

        gRPC calls it in a thread of its own when a client connects.
        """
        try:
            if self._found() == self._versions:
                return None
            configuration = self.load()
        except (OSError, ValueError) as error:
            log.warning("the certificates stay as they were", error=_problem(error))
            return None
        log.info("read new certificates", file=str(self._files.certificate))
        return configuration

    def _found(self) -> Versions:
        files = self._files
        found = map(os.stat, (files.ca, files.certificate, files.key))
        return tuple((entry.st_ino, entry.st_mtime_ns) for entry in found)


def _problem(error: Exception) -> str:
    """Returns an error as a phrase. Those of OpenSSL name no file and have codes."""
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'certificate, key and authority do not belong together'}"
    if isinstance(error, OSError) and error.filename:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)
