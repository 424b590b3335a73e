"""Receipts of results: signed when a result is stored, returned and verified later.

The results of a batch are not signed one by one: of them a receipt is made when it is asked for,
from what is stored.  What is not stored of them, it leaves empty.
"""

import json
import re
from pathlib import Path

from image_categorizer_server.access.jws import TokenRefused
from image_categorizer_server.access.receipt import ReceiptKeys
from image_categorizer_server.access.signing import PublicKey, public_keys_in
from image_categorizer_server.db import receipt as rows
from image_categorizer_server.db.result import Sealing
from image_categorizer_server.domain.image import ImageResult
from image_categorizer_server.domain.receipt import (
    ON_REQUEST,
    ON_STORING,
    Verification,
    changed_claims,
    claims_of,
)
from image_categorizer_server.errors import OperatorError, ReceiptMissing, ResultNotFound
from image_categorizer_server.services.audit_statement import signing_key_of
from image_categorizer_server.settings.audit import AuditSettings

RESULT = re.compile(r"r-[A-Za-z0-9_-]{1,62}")
ITEM = re.compile(r"(b-[A-Za-z0-9_-]{1,62})\.([0-9]{1,9})")
KEY_SETTING = "CATEGORIZER_AUDIT__SIGNING_KEY_FILE"
REPLACED_SETTING = "CATEGORIZER_AUDIT__REPLACED_KEYS_FILE"


def receipt_keys_of(settings: AuditSettings) -> ReceiptKeys:
    """Returns the keys that the settings name.

    Raises:
        OperatorError: a file cannot be read, or holds no such key.
    """
    return ReceiptKeys(signing_key_of(settings), _replaced_keys(settings.replaced_keys_file))


def _replaced_keys(file: str) -> list[PublicKey]:
    if not file:
        return []
    try:
        return public_keys_in(Path(file).expanduser().read_text())
    except OSError:
        raise OperatorError(f"Cannot read the file that {REPLACED_SETTING} names.") from None
    except ValueError as error:
        raise OperatorError(f"{REPLACED_SETTING} holds no Ed25519 keys: {error}.") from None


def is_of_batch(result_id: str) -> bool:
    """Returns whether a result is that of an item of a batch."""
    return ITEM.fullmatch(result_id) is not None


def is_of_image(result_id: str) -> bool:
    """Returns whether a result may be that of a stored image."""
    return RESULT.fullmatch(result_id) is not None


async def find_of_image(tenant_id: str, result_id: str) -> ImageResult:
    """Returns the result of a stored image with all that its receipt states.

    Raises:
        ResultNotFound: the tenant has no such result.
        DependencyDown: the database does not answer.
    """
    found = await rows.find_result(tenant_id, result_id) if is_of_image(result_id) else None
    if found is None:
        raise ResultNotFound("no such result")
    return found


class Receipts:
    """Makes and verifies receipts."""

    def __init__(self, keys: ReceiptKeys, sealing: Sealing | None) -> None:
        """Configures it.

        Args:
            keys: sign and verify.
            sealing: decrypts the results of batches; None for no encryption.
        """
        self._keys = keys
        self._sealing = sealing

    async def _find(self, tenant_id: str, result_id: str) -> ImageResult:
        """Returns a result, of a stored image or of an item of a batch; see `find_of_image`."""
        item = ITEM.fullmatch(result_id)
        if item is None:
            return await find_of_image(tenant_id, result_id)
        number = int(item[2])
        found = await rows.find_item_result(tenant_id, item[1], number, self._sealing)
        if found is None:
            raise ResultNotFound("no such result")
        return found

    async def receipt(self, tenant_id: str, result_id: str) -> tuple[str, str]:
        """Returns the receipt of a result, and the id of its key.

        Raises:
            ResultNotFound: the tenant has no such result.
            ReceiptMissing: the server had no key when the result was stored.
            DependencyDown: the database does not answer.
        """
        result = await self._find(tenant_id, result_id)
        receipt = result.receipt
        if is_of_batch(result_id):
            receipt = self._keys.sign(claims_of(tenant_id, result, ON_REQUEST))
        if not receipt:
            raise ReceiptMissing(
                "the server had no key to sign the result with; later results have receipts once "
                f"{KEY_SETTING} names a key, which `image-categorizer audit new-key` makes"
            )
        return receipt, self._keys.parse(receipt).key_id or ""

    async def verify(self, tenant_id: str, receipt: str) -> Verification:
        """Returns what is right, and wrong, with a receipt.

        Raises:
            DependencyDown: the database does not answer.
        """
        try:
            token = self._keys.parse(receipt)
        except TokenRefused as error:
            return Verification(False, False, False, (f"It is not a receipt: {error}.",), "")
        if not self._keys.knows(token):
            why = f"The server does not know the key {token.key_id!a}."
            return Verification(False, False, False, (why,), "")
        if not self._keys.has_signed(token):
            why = "The key that it names has not signed it: it was changed."
            return Verification(True, False, False, (why,), "")
        result_id = str(token.claims.get("result_id", ""))
        problem = await self._problem_with(tenant_id, result_id, token.claims)
        return Verification(True, True, not problem, (problem,) if problem else (), result_id)

    async def _problem_with(self, tenant_id: str, result_id: str, stated: dict[str, object]) -> str:
        """Returns a sentence on how a result differs from what is stated; empty if it does not."""
        if stated.get("tenant_id") != tenant_id:
            return "The result belongs to another tenant."
        try:
            result = await self._find(tenant_id, result_id)
        except ResultNotFound:
            return "The result is no longer stored."
        signed = ON_REQUEST if is_of_batch(result_id) else ON_STORING
        stored = json.loads(json.dumps(claims_of(tenant_id, result, signed)))
        changed = changed_claims(stated, stored)
        return f"The stored result has changed: {', '.join(changed)}." if changed else ""

    def public_keys(self) -> list[dict[str, str]]:
        """Returns the public keys as JSON Web Keys; the first is the one that signs."""
        return self._keys.public_keys()
