"""Addresses at which callers read a stored image without credentials, until they expire.

    CloudFront         a canned policy, signed with RSA and SHA-1
    Cloud CDN          the whole address, signed with HMAC and SHA-1
    Azure Front Door   has no signatures of its own: it passes the store's on
    no CDN             the store's own

Developer guides: Amazon CloudFront, "Create a signed URL using a canned policy"; Google Cloud CDN,
"Use signed URLs"; Microsoft, "Using Azure Content Delivery Network with SAS".
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from image_categorizer_server import clock
from image_categorizer_server.errors import FailedPrecondition, OperatorError
from image_categorizer_server.settings.image import CdnSettings
from image_categorizer_server.stores.object_store import Storage

Sign = Callable[[str, int], str]
# What base64 and a query write in another way.
CLOUDFRONT_SAFE = str.maketrans("+=/", "-_~")
CLOUD_CDN_KEY_BYTES = 16


class ContentAddresses:
    """Makes addresses of stored objects."""

    def __init__(self, storage: Storage, settings: CdnSettings) -> None:
        """Configures the addresses.

        Raises:
            OperatorError: the key cannot be read, or is of another kind.
        """
        self._storage = storage
        self._settings = settings
        self._sign = signer(settings)

    async def url_of(self, object_key: str) -> str:
        """Returns the address of an object; empty if the installation has none.

        Raises:
            DependencyDown: the store's signing service does not answer.
        """
        settings = self._settings
        if not settings.provider or self._storage.sealer.is_on:
            return ""
        if self._sign is not None:
            expires = int(clock.now().timestamp()) + settings.expires_s
            return self._sign(f"{settings.base_url.rstrip('/')}/{object_key}", expires)
        try:
            url = (await self._storage.presign_get(object_key, settings.expires_s)).url
        except FailedPrecondition:  # a store that signs nothing
            return ""
        return _at(settings.base_url, url) if settings.provider == "azure_front_door" else url


def signer(settings: CdnSettings) -> Sign | None:
    """Returns what signs an address that expires at some second; None where the store does."""
    match settings.provider:
        case "cloudfront":
            return _cloudfront(settings.key_id, settings.read_key())
        case "cloud_cdn":
            return _cloud_cdn(settings.key_id, settings.read_key())
    return None


def _cloudfront(key_id: str, pem: bytes) -> Sign:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise OperatorError("CATEGORIZER_CDN__KEY is not a private RSA key in PEM.")
    own = key

    def sign(url: str, expires: int) -> str:
        condition = {"DateLessThan": {"AWS:EpochTime": expires}}
        policy = {"Statement": [{"Resource": url, "Condition": condition}]}
        text = json.dumps(policy, separators=(",", ":")).encode()
        signature = own.sign(text, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - CloudFront's
        encoded = base64.b64encode(signature).decode().translate(CLOUDFRONT_SAFE)
        join = "&" if "?" in url else "?"
        return f"{url}{join}Expires={expires}&Signature={encoded}&Key-Pair-Id={key_id}"

    return sign


def _cloud_cdn(key_name: str, text: bytes) -> Sign:
    try:
        key = base64.urlsafe_b64decode(text.strip())
    except binascii.Error:
        key = b""
    if len(key) != CLOUD_CDN_KEY_BYTES:
        raise OperatorError(
            f"CATEGORIZER_CDN__KEY is not {CLOUD_CDN_KEY_BYTES} bytes in URL-safe base64."
        )

    def sign(url: str, expires: int) -> str:
        join = "&" if "?" in url else "?"
        url = f"{url}{join}Expires={expires}&KeyName={key_name}"
        signature = hmac.new(key, url.encode(), hashlib.sha1).digest()
        return f"{url}&Signature={base64.urlsafe_b64encode(signature).decode()}"

    return sign


def _at(base_url: str, signed_url: str) -> str:
    """Returns an address that the store has signed, at another host."""
    parts = urlsplit(signed_url)
    return f"{base_url.rstrip('/')}{parts.path}?{parts.query}"
