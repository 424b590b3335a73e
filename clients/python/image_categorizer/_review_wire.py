"""Converts between the clients' values about reviews and protobuf messages."""

from collections.abc import Mapping
from datetime import datetime

from google.protobuf.message import Message

from image_categorizer._image_wire import stored_image
from image_categorizer._review_values import ReviewAgreement, ReviewerPair, ReviewItem
from image_categorizer._wire import PAGE_SIZE, time_of
from image_categorizer.v1 import review_pb2


def list_request(order: str, given: Mapping[str, object]) -> review_pb2.ListReviewItemsRequest:
    """Returns the request for the first page of images that pass filters.

    Raises:
        TypeError: a filter is unknown, or a time has no time zone.
        ValueError: there is no such order.
    """
    request = review_pb2.ListReviewItemsRequest(
        page_size=PAGE_SIZE, order=review_pb2.ListReviewItemsRequest.Order.Value(order)
    )
    known = set(request.DESCRIPTOR.fields_by_name) - {"page_size", "page_token", "order"}
    if unknown := set(given) - known:
        raise TypeError(f"unknown filters: {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if isinstance(value, datetime):
            set_time(request, name, value)
        elif value is not None:
            setattr(request, name, value)
    return request


def set_time(request: Message, name: str, time: datetime | None) -> None:
    """Sets a time of a request, unless it is None.

    Raises:
        TypeError: it has no time zone.
    """
    if time is None:
        return
    if time.tzinfo is None:
        raise TypeError(f"{name} needs a time zone")
    getattr(request, name).FromDatetime(time)


def item(wire: review_pb2.ReviewItem) -> ReviewItem:
    """Returns an image in the queue."""
    return ReviewItem(
        image=stored_image(wire.image),
        uncertainty=wire.uncertainty,
        disagreement=wire.disagreement if wire.HasField("disagreement") else None,
        skip_time=time_of(wire, "skip_time"),
    )


def agreement(wire: review_pb2.ReviewAgreement) -> ReviewAgreement:
    """Returns how far reviewers agree."""
    has_observed = wire.HasField("observed_agreement")
    return ReviewAgreement(
        result_count=wire.result_count,
        reviewer_count=wire.reviewer_count,
        observed_agreement=wire.observed_agreement if has_observed else None,
        fleiss_kappa=wire.fleiss_kappa if wire.HasField("fleiss_kappa") else None,
        pairs=tuple(map(_pair, wire.pairs)),
    )


def _pair(wire: review_pb2.ReviewerPair) -> ReviewerPair:
    return ReviewerPair(
        reviewer=wire.reviewer,
        other_reviewer=wire.other_reviewer,
        result_count=wire.result_count,
        observed_agreement=wire.observed_agreement,
        cohen_kappa=wire.cohen_kappa if wire.HasField("cohen_kappa") else None,
    )
