"""AdminService: legal holds."""

from functools import partial

import grpc
from image_categorizer.v1 import legal_hold_pb2

from image_categorizer_server.domain.legal_hold import (
    WHOLE_TENANT,
    HoldKind,
    HoldTarget,
    LegalHold,
)
from image_categorizer_server.errors import InvalidRequest, LegalHoldNotFound
from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.validation import (
    IDENTIFIER,
    image_id_of,
    raise_if_any,
    required,
)
from image_categorizer_server.services.legal_hold import LegalHolds

Context = grpc.aio.ServicerContext


class LegalHoldServicer:
    """Serves the RPCs of AdminService about legal holds."""

    def __init__(self, holds: LegalHolds, max_page_bytes: int) -> None:
        self._holds = holds
        self._max_page_bytes = max_page_bytes

    async def CreateLegalHold(
        self,
        request: legal_hold_pb2.CreateLegalHoldRequest,
        context: Context[legal_hold_pb2.CreateLegalHoldRequest, legal_hold_pb2.LegalHold],
    ) -> legal_hold_pb2.LegalHold:
        hold = await self._holds.create(current_tenant(), _target(request), request.reference)
        return _hold(hold)

    async def ReleaseLegalHold(
        self,
        request: legal_hold_pb2.ReleaseLegalHoldRequest,
        context: Context[legal_hold_pb2.ReleaseLegalHoldRequest, legal_hold_pb2.LegalHold],
    ) -> legal_hold_pb2.LegalHold:
        wrong: list[tuple[str, str]] = []
        required("hold_id", request.hold_id, wrong)
        raise_if_any(wrong)
        if not IDENTIFIER.fullmatch(request.hold_id):
            raise LegalHoldNotFound("no such legal hold")
        return _hold(await self._holds.release(current_tenant(), request.hold_id))

    async def ListLegalHolds(
        self,
        request: legal_hold_pb2.ListLegalHoldsRequest,
        context: Context[
            legal_hold_pb2.ListLegalHoldsRequest, legal_hold_pb2.ListLegalHoldsResponse
        ],
    ) -> legal_hold_pb2.ListLegalHoldsResponse:
        holds = partial(self._holds.list_page, current_tenant())
        page = await pages.read(request, holds, _hold, self._max_page_bytes)
        return legal_hold_pb2.ListLegalHoldsResponse(
            holds=page.messages, next_page_token=page.next_page_token
        )


def _target(request: legal_hold_pb2.CreateLegalHoldRequest) -> HoldTarget:
    match request.WhichOneof("target"):
        case "image_id":
            return HoldTarget(HoldKind.IMAGE, image_id_of(request.image_id))
        case "subject_id":
            return HoldTarget(HoldKind.SUBJECT, request.subject_id)
        case "whole_tenant":
            if request.whole_tenant:
                return WHOLE_TENANT
            raise InvalidRequest.of([("whole_tenant", "must be true")])
    raise InvalidRequest.of([("image_id", "is required, or subject_id or whole_tenant")])


def _hold(value: LegalHold) -> legal_hold_pb2.LegalHold:
    target = value.target
    return legal_hold_pb2.LegalHold(
        hold_id=value.hold_id,
        image_id=target.key if target.kind is HoldKind.IMAGE else "",
        subject_key=target.key if target.kind is HoldKind.SUBJECT else "",
        whole_tenant=target.kind is HoldKind.TENANT,
        reference=value.reference,
        create_time=timestamp(value.create_time),
        end_time=timestamp(value.end_time),
    )
