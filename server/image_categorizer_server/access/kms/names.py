"""How keys of key-management services are named in the settings."""

import re
from collections.abc import Callable

from image_categorizer_server.access.kms.aws import AwsKey
from image_categorizer_server.access.kms.azure_vault import AzureKey
from image_categorizer_server.access.kms.google_cloud import GoogleKey
from image_categorizer_server.access.kms.key import ServiceKey
from image_categorizer_server.access.kms.service import KeyRefused, KeyService
from image_categorizer_server.access.kms.vault import VaultKey
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.encryption import EncryptionSettings

Open = Callable[[str, float], KeyService]
VAULT = "vault:"
# A form, what opens it, and the optional dependency that it needs.
FORMS: tuple[tuple[re.Pattern[str], Open, str], ...] = (
    (
        re.compile(r"arn:aws(-[a-z]+)*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+"),
        AwsKey,
        "aws-kms",
    ),
    (
        re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+"),
        GoogleKey,
        "gcp-kms",
    ),
    (
        re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?/keys/[A-Za-z0-9-]+/[0-9a-f]{32}"),
        AzureKey,
        "azure-kms",
    ),
    (
        re.compile(VAULT + r"[\w./-]+/[\w.-]+"),
        lambda name, timeout_s: VaultKey(name.removeprefix(VAULT), timeout_s),
        "vault",
    ),
)


def service_key(name: str, settings: EncryptionSettings) -> ServiceKey | None:
    """Returns the key that a name of the settings means; None if it has no form of a service.

    Raises:
        OperatorError: the library of the service is missing, or it finds no credentials.
    """
    for form, opened, extra in FORMS:
        if form.fullmatch(name):
            try:
                service = opened(name, settings.kms_timeout_s)
            except ImportError as error:
                raise OperatorError(
                    f"The key {name} needs a library: "
                    f"pip install 'image-categorizer-server[{extra}]' ({error.name} is missing)."
                ) from None
            except KeyRefused as error:
                raise OperatorError(f"The key {name} cannot be used: {error}.") from None
            return ServiceKey(name, service, settings.kms_timeout_s, settings.kms_keep_s)
    return None
