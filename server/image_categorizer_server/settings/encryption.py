"""Settings of TLS inside an installation, with its files, and of encrypted images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from image_categorizer_server.settings.group import Group

Party = Literal["server", "gateway", "worker"]
PARTIES: tuple[Party, ...] = ("server", "gateway", "worker")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """What one party of a connection reads, as PEM files."""

    ca: Path
    """Certificate of the authority that issued the other party's certificate."""
    certificate: Path
    key: Path


class InternalTlsSettings(Group):
    """TLS between gateway, workers and server, in which each shows a certificate."""

    path: str = Field(
        "",
        description="Folder with ca.pem and, for each party of this machine, its certificate and "
        "key: server.pem and server-key.pem, gateway.pem and gateway-key.pem, worker.pem and "
        "worker-key.pem. `image-categorizer certificates create` makes it. Empty: no TLS.",
    )
    server_name: str = Field(
        "server.image-categorizer.internal",
        description="DNS name in the servers' certificate, which gateway and workers check.",
    )
    gateway_name: str = Field(
        "gateway.image-categorizer.internal",
        description="DNS name in the gateway's certificate. A server believes what it says about "
        "the address of a client, and nobody else.",
    )

    def files(self, party: Party) -> CertificateFiles:
        """Returns the files of one party."""
        folder = Path(self.path)
        return CertificateFiles(
            folder / "ca.pem", folder / f"{party}.pem", folder / f"{party}-key.pem"
        )


class EncryptionSettings(Group):
    """Encryption of stored images by keys of your own. Off unless there is a key."""

    keys_path: str = Field(
        "",
        description="File with the keys that encrypt data keys, one a line: 32 bytes in base64, or "
        "the name of a key of a key-management service (docs/encryption.md). "
        "The first encrypts; the others only decrypt, until `encryption rotate` was run.",
    )
    keys: str = Field(
        "", repr=False, description="The same keys, separated by commas, if there is no file."
    )
    kms_timeout_s: float = Field(
        5.0,
        ge=0.1,
        le=60,
        description="Time limit for a call of a key-management service, in seconds.",
    )
    kms_keep_s: float = Field(
        3600.0,
        ge=0,
        le=86_400,
        description="How long a data key is used without the key-management service, in seconds. "
        "The service is asked again after half of it.",
    )
