"""Receipts as JSON Web Signatures (RFC 7515) by Ed25519 keys (RFC 8037)."""

import json
from collections.abc import Mapping, Sequence

from joserfc.jwk import OKPKey
from joserfc.jws import serialize_compact

from image_categorizer_server.access.jws import (
    SigningRegistry,
    TokenRefused,
    UnverifiedToken,
    parse,
    verify_signature,
)
from image_categorizer_server.access.signing import PublicKey, SigningKey

ALGORITHM = "EdDSA"
TYPE = "image-categorizer-receipt"
MAX_BYTES = 65_536


class ReceiptKeys:
    """The key that signs receipts, and all that verify them."""

    def __init__(self, key: SigningKey | None, replaced: Sequence[PublicKey]) -> None:
        """Configures it.

        Args:
            key: signs; None: nothing is signed.
            replaced: keys that have signed before.
        """
        self._private = OKPKey.import_key(key.pem()) if key else None
        public = [*([key.public_key] if key else []), *replaced]
        self._public = {each.key_id: OKPKey.import_key(each.pem()) for each in public}
        self.key_id = key.public_key.key_id if key else ""
        """Of the key that signs; empty for none."""

    def sign(self, claims: Mapping[str, object]) -> str:
        """Returns the receipt with a payload; empty without a key."""
        if self._private is None:
            return ""
        header = {"alg": ALGORITHM, "kid": self.key_id, "typ": TYPE}
        content = json.dumps(
            claims, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        registry = SigningRegistry(ALGORITHM)
        return serialize_compact(header, content, self._private, registry=registry)

    def parse(self, receipt: str) -> UnverifiedToken:
        """Returns the contents of a receipt, which anybody can have written.

        Raises:
            TokenRefused: it is too large or malformed, or something else than a receipt.
        """
        token = parse(receipt, MAX_BYTES)
        if token.algorithm != ALGORITHM or token.type != TYPE:
            raise TokenRefused(f"its header does not have alg {ALGORITHM} and typ {TYPE}")
        return token

    def knows(self, token: UnverifiedToken) -> bool:
        """Returns whether the key that a receipt names is one of these."""
        return token.key_id in self._public

    def has_signed(self, token: UnverifiedToken) -> bool:
        """Returns whether the key that a receipt names, one of these, has signed it."""
        try:
            verify_signature(token, self._public[token.key_id or ""])
        except TokenRefused:
            return False
        return True

    def public_keys(self) -> list[dict[str, str]]:
        """Returns the public keys as JSON Web Keys, first the one that signs."""
        return [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": str(key.as_dict(private=False)["x"]),
                "kid": key_id,
                "use": "sig",
                "alg": ALGORITHM,
            }
            for key_id, key in self._public.items()
        ]
