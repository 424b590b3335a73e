"""The asyncio client's receipts of results."""

from image_categorizer import _receipt_wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._receipt_values import Receipt, ResultReplay, ResultVerification
from image_categorizer.v1 import receipt_pb2


class AsyncResults:
    """The receipts of results: `client.results`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def receipt(self, result_id: str) -> Receipt:
        """Returns the receipt of a result: what was classified, how, and what was found, signed.

            result = await client.classify_image("cat.jpg", store=True)
            receipt = await client.results.receipt(result.result_id)

        Args:
            result_id: of a stored image's result; or the id of a batch, a dot and the number of an
                item.

        Raises:
            ResultNotFound: there is no such result.
            ReceiptMissing: the server had no key to sign with.
        """
        request = receipt_pb2.GetReceiptRequest(result_id=result_id)
        return _receipt_wire.receipt(
            await self._connection.call(self._connection.stubs.images.GetReceipt, request)
        )

    async def verify(self, receipt: Receipt | str) -> ResultVerification:
        """Verifies a receipt on the server: its signature, and whether the result is unchanged.

        `receipts.verify_receipt` verifies the signature without a server.

        Args:
            receipt: a receipt, or its text.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        text = receipt if isinstance(receipt, str) else receipt.receipt
        request = receipt_pb2.VerifyResultRequest(receipt=text)
        return _receipt_wire.verification(
            await self._connection.call(self._connection.stubs.images.VerifyResult, request)
        )

    async def replay(self, result_id: str) -> ResultReplay:
        """Classifies the image of a result again, by the same version, and compares.

        Args:
            result_id: of a stored image's result.

        Raises:
            ResultNotFound: there is no such result.
            ModelNotFound: the version is gone, or unloaded.
        """
        request = receipt_pb2.ReplayResultRequest(result_id=result_id)
        return _receipt_wire.replay(
            await self._connection.call(self._connection.stubs.images.ReplayResult, request)
        )

    async def keys(self) -> dict[str, list[dict[str, str]]]:
        """Returns the public keys that verify receipts, as a JSON Web Key Set.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = receipt_pb2.ListReceiptKeysRequest()
        return _receipt_wire.key_set(
            await self._connection.call(self._connection.stubs.images.ListReceiptKeys, request)
        )
