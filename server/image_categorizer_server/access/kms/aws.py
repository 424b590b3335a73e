"""AWS Key Management Service.

Credentials and region of the credentials come from AWS's own variables, files or roles, as for
every program that uses boto3.
"""

from collections.abc import Callable
from typing import Any

from image_categorizer_server.access.kms.service import KeyRefused, KeyServiceDown

# https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html#API_Decrypt_Errors
TRANSIENT = {
    "DependencyTimeoutException",
    "KeyUnavailableException",
    "KMSInternalException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
}
ATTEMPTS = 2


class AwsKey:
    """A symmetric key, or an RSA key for encryption."""

    def __init__(self, arn: str, timeout_s: float) -> None:
        """Makes a client; calls nobody.

        Args:
            arn: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
            timeout_s: time limit for an attempt, in seconds.

        Raises:
            ImportError: boto3 is not installed.
        """
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        )
        self._arn = arn
        self._client = boto3.client("kms", region_name=arn.split(":")[3], config=config)

    def encrypt(self, plaintext: bytes) -> bytes:
        """Returns at most 100 bytes, encrypted."""
        return self._answer(self._client.encrypt, "CiphertextBlob", Plaintext=plaintext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Returns what `encrypt` was given."""
        return self._answer(self._client.decrypt, "Plaintext", CiphertextBlob=ciphertext)

    def _answer(self, call: Callable[..., dict[str, Any]], member: str, **content: bytes) -> bytes:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            ParamValidationError,
        )

        try:
            return bytes(call(KeyId=self._arn, **content)[member])
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in TRANSIENT or status >= 500:
                raise KeyServiceDown(code) from error
            raise KeyRefused(code) from error
        except NoCredentialsError as error:
            raise KeyRefused("this process has no credentials of AWS") from error
        except ParamValidationError as error:  # such as a wrapped key that is empty
            raise KeyRefused("ParamValidationError") from error
        except BotoCoreError as error:
            raise KeyServiceDown(type(error).__name__) from error
