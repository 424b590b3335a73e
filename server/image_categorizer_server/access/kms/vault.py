"""The transit engine of HashiCorp Vault, and of OpenBao.

Address, token and certificates come from Vault's own variables: VAULT_ADDR, VAULT_TOKEN,
VAULT_NAMESPACE, VAULT_CACERT, VAULT_CLIENT_CERT and VAULT_CLIENT_KEY.
"""

import base64
import os
from collections.abc import Callable
from typing import Any

from image_categorizer_server.access.kms.service import KeyRefused, KeyServiceDown


class VaultKey:
    """A key of a transit engine."""

    def __init__(self, path: str, timeout_s: float) -> None:
        """Makes a client; calls nobody.

        Args:
            path: of the key: `MOUNT/NAME`.
            timeout_s: time limit for a call, in seconds.

        Raises:
            ImportError: hvac is not installed.
        """
        import hvac

        self._mount, _, self._name = path.rpartition("/")
        client = hvac.Client(namespace=os.environ.get("VAULT_NAMESPACE"), timeout=timeout_s)
        self._transit = client.secrets.transit

    def encrypt(self, plaintext: bytes) -> bytes:
        """Returns at most 100 bytes, encrypted."""
        text = base64.b64encode(plaintext).decode()
        answer = self._answer(self._transit.encrypt_data, plaintext=text)
        return str(answer["ciphertext"]).encode()

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Returns what `encrypt` was given."""
        text = ciphertext.decode("ascii", "replace")
        answer = self._answer(self._transit.decrypt_data, ciphertext=text)
        return base64.b64decode(answer["plaintext"])

    def _answer(self, call: Callable[..., Any], **content: str) -> dict[str, Any]:
        import requests
        from hvac import exceptions

        down = (
            exceptions.BadGateway,
            exceptions.InternalServerError,
            exceptions.RateLimitExceeded,
            exceptions.VaultDown,
            requests.RequestException,
        )
        try:
            answer: dict[str, Any] = call(name=self._name, mount_point=self._mount, **content)
        except down as error:
            raise KeyServiceDown(type(error).__name__) from error
        except exceptions.VaultError as error:
            raise KeyRefused(type(error).__name__) from error
        return dict(answer["data"])
