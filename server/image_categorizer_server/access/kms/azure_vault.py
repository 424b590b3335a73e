"""Azure Key Vault and Managed HSM.

Credentials are those that `DefaultAzureCredential` finds: variables, a workload identity, or the
identity of the machine.
"""

from collections.abc import Callable
from typing import Any

from image_categorizer_server.access.kms.service import KeyRefused, KeyServiceDown

TOO_MANY, SERVER_ERROR = 429, 500
RETRIES = 1


class AzureKey:
    """One version of an RSA key."""

    def __init__(self, key_id: str, timeout_s: float, credential: Any = None) -> None:
        """Makes a client; calls nobody.

        Args:
            key_id: `https://VAULT.vault.azure.net/keys/NAME/VERSION`.
            timeout_s: time limit for an attempt, in seconds.
            credential: of Azure; None for `DefaultAzureCredential`.

        Raises:
            ImportError: azure-keyvault-keys or azure-identity is not installed.
        """
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

        self._algorithm = KeyWrapAlgorithm.rsa_oaep_256
        self._client = CryptographyClient(
            key_id,
            credential or DefaultAzureCredential(),
            connection_timeout=timeout_s,
            read_timeout=timeout_s,
            retry_total=RETRIES,
        )

    def encrypt(self, plaintext: bytes) -> bytes:
        """Returns at most 100 bytes, encrypted."""
        return bytes(self._answer(self._client.wrap_key, plaintext).encrypted_key)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Returns what `encrypt` was given."""
        return bytes(self._answer(self._client.unwrap_key, ciphertext).key)

    def _answer(self, call: Callable[..., Any], content: bytes) -> Any:
        from azure.core.exceptions import (
            AzureError,
            HttpResponseError,
            ServiceRequestError,
            ServiceResponseError,
        )

        try:
            return call(self._algorithm, content)
        except HttpResponseError as error:  # also if there are no credentials
            status = error.status_code or 0
            kind = KeyServiceDown if status == TOO_MANY or status >= SERVER_ERROR else KeyRefused
            raise kind(f"{type(error).__name__} {status or ''}".strip()) from error
        except (ServiceRequestError, ServiceResponseError) as error:
            raise KeyServiceDown(type(error).__name__) from error
        except AzureError as error:
            raise KeyRefused(type(error).__name__) from error
