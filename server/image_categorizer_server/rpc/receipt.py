"""ImageService: receipts of results."""

import grpc
from image_categorizer.v1 import receipt_pb2

from image_categorizer_server.access.receipt import MAX_BYTES
from image_categorizer_server.access.roles import authorize_scope
from image_categorizer_server.domain.access import Scope
from image_categorizer_server.domain.classification import Caller, Lane
from image_categorizer_server.errors import InvalidRequest, ResultNotFound
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.validation import raise_if_any, required
from image_categorizer_server.services.receipt import Receipts, is_of_batch, is_of_image
from image_categorizer_server.services.replay import Replays

Context = grpc.aio.ServicerContext


class ReceiptServicer:
    """Serves the RPCs of ImageService about receipts."""

    def __init__(self, receipts: Receipts, replays: Replays) -> None:
        self._receipts = receipts
        self._replays = replays

    async def GetReceipt(
        self,
        request: receipt_pb2.GetReceiptRequest,
        context: Context[receipt_pb2.GetReceiptRequest, receipt_pb2.Receipt],
    ) -> receipt_pb2.Receipt:
        result_id = _result_id(request.result_id)
        _authorize_batches(result_id)
        receipt, key_id = await self._receipts.receipt(current_tenant(), result_id)
        return receipt_pb2.Receipt(result_id=result_id, receipt=receipt, key_id=key_id)

    async def VerifyResult(
        self,
        request: receipt_pb2.VerifyResultRequest,
        context: Context[receipt_pb2.VerifyResultRequest, receipt_pb2.ResultVerification],
    ) -> receipt_pb2.ResultVerification:
        if not 1 <= len(request.receipt) <= MAX_BYTES:
            text = f"is required and has at most {MAX_BYTES} characters"
            raise InvalidRequest.of([("receipt", text)])
        found = await self._receipts.verify(current_tenant(), request.receipt)
        _authorize_batches(found.result_id)
        return receipt_pb2.ResultVerification(
            valid=found.result_unchanged,
            key_known=found.key_known,
            signature_valid=found.signature_valid,
            result_unchanged=found.result_unchanged,
            problems=found.problems,
            result_id=found.result_id,
        )

    async def ReplayResult(
        self,
        request: receipt_pb2.ReplayResultRequest,
        context: Context[receipt_pb2.ReplayResultRequest, receipt_pb2.ResultReplay],
    ) -> receipt_pb2.ResultReplay:
        result_id = _result_id(request.result_id)
        if is_of_batch(result_id):
            text = "must be that of a stored image: what a batch reads is not kept for it"
            raise InvalidRequest.of([("result_id", text)])
        if not is_of_image(result_id):
            raise ResultNotFound("no such result")
        _authorize(Scope.IMAGES_READ, "to read the image")
        call = current_call.get()
        caller = Caller(
            call.tenant_id, Lane.INTERACTIVE, call.deadline_s, call.is_repeated, call.key_id
        )
        found = await self._replays.replay(result_id, caller)
        return receipt_pb2.ResultReplay(
            matches=found.matches,
            max_difference=found.max_difference,
            predictions=map(convert.prediction, found.answer.predictions),
            model=convert.model_ref(found.answer.model),
            differences=[
                receipt_pb2.ReplayDifference(
                    name=each.name, recorded=each.recorded, current=each.current
                )
                for each in found.differences
            ],
        )

    async def ListReceiptKeys(
        self,
        request: receipt_pb2.ListReceiptKeysRequest,
        context: Context[receipt_pb2.ListReceiptKeysRequest, receipt_pb2.ReceiptKeys],
    ) -> receipt_pb2.ReceiptKeys:
        keys = self._receipts.public_keys()
        return receipt_pb2.ReceiptKeys(keys=[receipt_pb2.ReceiptKey(**key) for key in keys])


def _result_id(text: str) -> str:
    wrong: list[tuple[str, str]] = []
    required("result_id", text, wrong)
    raise_if_any(wrong)
    return text


def _authorize_batches(result_id: str) -> None:
    if is_of_batch(result_id):
        _authorize(Scope.BATCHES_READ, "to read results of batches")


def _authorize(scope: Scope, purpose: str) -> None:
    principal = current_call.get().principal
    assert principal is not None
    authorize_scope(principal, scope, purpose)
