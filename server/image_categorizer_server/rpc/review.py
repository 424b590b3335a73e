"""ReviewService."""

from functools import partial

import grpc
from image_categorizer.v1 import review_pb2, review_pb2_grpc

from image_categorizer_server.domain.review import (
    Agreement,
    ReviewFilter,
    ReviewItem,
    ReviewOrder,
)
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc import convert, pages
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.image import image_to_wire
from image_categorizer_server.rpc.validation import image_id_of, raise_if_any
from image_categorizer_server.services.review import Reviews

Context = grpc.aio.ServicerContext
WIRE_ORDERS = review_pb2.ListReviewItemsRequest.Order
TIMES = "start_time", "end_time"


class ReviewServicer(review_pb2_grpc.ReviewServiceServicer):
    """Serves ReviewService."""

    def __init__(self, reviews: Reviews, max_page_bytes: int) -> None:
        self._reviews = reviews
        self._max_page_bytes = max_page_bytes

    async def ListReviewItems(
        self,
        request: review_pb2.ListReviewItemsRequest,
        context: Context[review_pb2.ListReviewItemsRequest, review_pb2.ListReviewItemsResponse],
    ) -> review_pb2.ListReviewItemsResponse:
        read = partial(self._reviews.list_page, current_tenant(), _wanted(request))
        page = await pages.read(request, read, item_to_wire, self._max_page_bytes)
        return review_pb2.ListReviewItemsResponse(
            items=page.messages, next_page_token=page.next_page_token
        )

    async def SkipReviewItem(
        self,
        request: review_pb2.SkipReviewItemRequest,
        context: Context[review_pb2.SkipReviewItemRequest, review_pb2.ReviewItem],
    ) -> review_pb2.ReviewItem:
        image_id = image_id_of(request.image_id)
        return item_to_wire(await self._reviews.skip(current_tenant(), image_id))

    async def GetReviewAgreement(
        self,
        request: review_pb2.GetReviewAgreementRequest,
        context: Context[review_pb2.GetReviewAgreementRequest, review_pb2.ReviewAgreement],
    ) -> review_pb2.ReviewAgreement:
        wrong: list[tuple[str, str]] = []
        times = [convert.moment(request, field, wrong) for field in TIMES]
        raise_if_any(wrong)
        return agreement_to_wire(
            await self._reviews.agreement(current_tenant(), request.model, *times)
        )


def _wanted(request: review_pb2.ListReviewItemsRequest) -> ReviewFilter:
    wrong: list[tuple[str, str]] = []
    start_time, end_time = (convert.moment(request, field, wrong) for field in TIMES)
    raise_if_any(wrong)
    orders = {WIRE_ORDERS.Value(order.value): order for order in ReviewOrder}
    order = orders.get(request.order or WIRE_ORDERS.UNCERTAINTY)
    if order is None:
        raise InvalidRequest.of([("order", f"must be {' or '.join(ReviewOrder)}")])
    return ReviewFilter(
        order, request.category, request.model, start_time, end_time, request.skipped
    )


def item_to_wire(value: ReviewItem) -> review_pb2.ReviewItem:
    """Returns an image in the queue as a message."""
    place = value.place
    return review_pb2.ReviewItem(
        image=image_to_wire(value.image),
        uncertainty=place.uncertainty,
        disagreement=place.disagreement,
        skip_time=convert.timestamp(place.skip_time),
    )


def agreement_to_wire(value: Agreement) -> review_pb2.ReviewAgreement:
    """Returns how far reviewers agree as a message."""
    return review_pb2.ReviewAgreement(
        result_count=value.result_count,
        reviewer_count=value.reviewer_count,
        observed_agreement=value.observed,
        fleiss_kappa=value.fleiss_kappa,
        pairs=[
            review_pb2.ReviewerPair(
                reviewer=pair.reviewer,
                other_reviewer=pair.other_reviewer,
                result_count=pair.result_count,
                observed_agreement=pair.observed,
                cohen_kappa=pair.cohen_kappa,
            )
            for pair in value.pairs
        ],
    )
