"""When certificates expire, for the metrics."""

import math
from functools import partial
from pathlib import Path

from cryptography import x509

from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.encryption import Party
from image_categorizer_server.telemetry.metrics import show_certificate


def show_certificates(settings: Settings, party: Party) -> None:
    """Shows in the metrics when the certificates expire that this process can read.

    Args:
        settings: of this process.
        party: of the internal connections.
    """
    public, internal = settings.gateway.tls_cert_path, settings.internal_tls
    if public:
        show_certificate("gateway", partial(expiry_s, Path(public)))
    if internal.path:
        show_certificate(f"internal {party}", partial(expiry_s, internal.files(party).certificate))


def expiry_s(file: Path) -> float:
    """Returns when the first certificate of a PEM file expires, in seconds since 1970.

    NaN if the file cannot be read: the gateway's may be on another machine.
    """
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return math.nan
    return certificate.not_valid_after_utc.timestamp()
