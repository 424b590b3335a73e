"""Google Cloud Key Management Service.

Credentials are the application default credentials: a service account's file, a workload identity,
or those of the machine.
"""

from collections.abc import Callable, Mapping
from typing import Any

from image_categorizer_server.access.kms.service import KeyRefused, KeyServiceDown


class GoogleKey:
    """A symmetric key for encryption."""

    def __init__(self, name: str, timeout_s: float, endpoint: str = "") -> None:
        """Makes a client; calls nobody.

        Args:
            name: `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
            timeout_s: time limit for a call, in seconds.
            endpoint: address of the service; empty for Google's own.

        Raises:
            ImportError: google-cloud-kms is not installed.
            KeyRefused: there are no credentials.
        """
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import kms_v1

        self._name, self._timeout_s = name, timeout_s
        options = {"api_endpoint": endpoint} if endpoint else None
        try:
            self._client = kms_v1.KeyManagementServiceClient(
                transport="rest", client_options=options
            )
        except GoogleAuthError as error:
            raise KeyRefused("this process has no credentials of Google Cloud") from error

    def encrypt(self, plaintext: bytes) -> bytes:
        """Returns at most 100 bytes, encrypted."""
        request = {"name": self._name, "plaintext": plaintext}
        return bytes(self._answer(self._client.encrypt, request).ciphertext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Returns what `encrypt` was given."""
        request = {"name": self._name, "ciphertext": ciphertext}
        return bytes(self._answer(self._client.decrypt, request).plaintext)

    def _answer(self, call: Callable[..., Any], request: Mapping[str, object]) -> Any:
        import requests
        from google.api_core.exceptions import GoogleAPICallError, ServerError, TooManyRequests
        from google.auth.exceptions import GoogleAuthError, TransportError

        try:
            return call(request=request, timeout=self._timeout_s, retry=None)
        except (ServerError, TooManyRequests) as error:
            raise KeyServiceDown(type(error).__name__) from error
        except GoogleAPICallError as error:
            raise KeyRefused(type(error).__name__) from error
        except (TransportError, requests.RequestException) as error:
            raise KeyServiceDown(type(error).__name__) from error
        except GoogleAuthError as error:
            kind = KeyServiceDown if error.retryable else KeyRefused
            raise kind(type(error).__name__) from error
