"""FeedbackService."""

from functools import partial

import grpc
from image_categorizer.v1 import feedback_pb2, feedback_pb2_grpc

from image_categorizer_server.domain.feedback import Feedback, Judgement, NewFeedback
from image_categorizer_server.errors import FeedbackNotFound, InvalidRequest, ResultNotFound
from image_categorizer_server.paging import Page
from image_categorizer_server.rpc import convert, pages
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.validation import IDENTIFIER, image_id_of, raise_if_any, required
from image_categorizer_server.services.duplicate import check_bits
from image_categorizer_server.services.feedback import FeedbackBook
from image_categorizer_server.services.look_alike import LookAlikes

Context = grpc.aio.ServicerContext
WIRE_JUDGEMENTS = feedback_pb2.Feedback.Judgement


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """Serves FeedbackService."""

    def __init__(
        self, feedback: FeedbackBook, look_alikes: LookAlikes, max_page_bytes: int
    ) -> None:
        self._feedback = feedback
        self._look_alikes = look_alikes
        self._max_page_bytes = max_page_bytes

    async def SubmitFeedback(
        self,
        request: feedback_pb2.SubmitFeedbackRequest,
        context: Context[feedback_pb2.SubmitFeedbackRequest, feedback_pb2.Feedback],
    ) -> feedback_pb2.Feedback:
        image_id = image_id_of(request.image_id)
        if request.result_id and not IDENTIFIER.fullmatch(request.result_id):
            raise ResultNotFound("the image has no such result")
        judgement, reviewer = _judgement(request), current_call.get().key_id
        if request.HasField("look_alike_bits"):
            check_bits(request.look_alike_bits, "look_alike_bits")
        new = NewFeedback(image_id, judgement, request.result_id, request.category, reviewer)
        tenant_id = current_tenant()
        said = await self._feedback.submit(tenant_id, new)
        answer = feedback_to_wire(said)
        if request.HasField("look_alike_bits"):
            bits = request.look_alike_bits
            judged = await self._look_alikes.judge(tenant_id, said, bits)
            answer.look_alike_image_ids.extend(judged)
        return answer

    async def ListFeedback(
        self,
        request: feedback_pb2.ListFeedbackRequest,
        context: Context[feedback_pb2.ListFeedbackRequest, feedback_pb2.ListFeedbackResponse],
    ) -> feedback_pb2.ListFeedbackResponse:
        image_id = image_id_of(request.image_id) if request.image_id else ""
        read = partial(self._read, current_tenant(), image_id)
        page = await pages.read(request, read, feedback_to_wire, self._max_page_bytes)
        return feedback_pb2.ListFeedbackResponse(
            feedback=page.messages, next_page_token=page.next_page_token
        )

    async def _read(
        self, tenant_id: str, image_id: str, page_size: int, page_token: str
    ) -> Page[Feedback]:
        return await self._feedback.list_page(tenant_id, image_id, page_size, page_token)

    async def UndoFeedback(
        self,
        request: feedback_pb2.UndoFeedbackRequest,
        context: Context[feedback_pb2.UndoFeedbackRequest, feedback_pb2.Feedback],
    ) -> feedback_pb2.Feedback:
        wrong: list[tuple[str, str]] = []
        required("feedback_id", request.feedback_id, wrong)
        raise_if_any(wrong)
        if not IDENTIFIER.fullmatch(request.feedback_id):
            raise FeedbackNotFound("no such feedback")
        return feedback_to_wire(await self._feedback.undo(current_tenant(), request.feedback_id))


def _judgement(request: feedback_pb2.SubmitFeedbackRequest) -> Judgement:
    """Returns the judgement of a request.

    Raises:
        InvalidRequest: it is missing, or not known.
    """
    names = {WIRE_JUDGEMENTS.Value(judgement.value): judgement for judgement in Judgement}
    judgement = names.get(request.judgement)
    if judgement is None:
        raise InvalidRequest.of([("judgement", "must be RIGHT, WRONG or NOT_IN_LIST")])
    return judgement


def feedback_to_wire(value: Feedback) -> feedback_pb2.Feedback:
    """Returns feedback as a message."""
    return feedback_pb2.Feedback(
        feedback_id=value.feedback_id,
        image_id=value.image_id,
        result_id=value.result_id,
        judgement=WIRE_JUDGEMENTS.Value(value.judgement.value),
        category=value.category,
        create_time=convert.timestamp(value.create_time),
        undo_time=convert.timestamp(value.undo_time),
        reviewer=value.reviewer,
    )
