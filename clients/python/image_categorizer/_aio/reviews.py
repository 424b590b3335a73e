"""The asyncio client's reviews."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Unpack

from image_categorizer import _review_wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer._review_values import (
    ReviewAgreement,
    ReviewFilters,
    ReviewItem,
    ReviewOrder,
)
from image_categorizer.v1 import review_pb2


class AsyncReviews:
    """The stored images whose newest result nobody has judged: `client.reviews`.

    `client.feedback.confirm`, `client.feedback.reject` and `client.images.correct` judge one.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @listing
    async def list(
        self, order: ReviewOrder = "UNCERTAINTY", **filters: Unpack[ReviewFilters]
    ) -> AsyncIterator[ReviewItem]:
        """Yields the images that nobody has judged, those first that a judgement helps most.

            async for item in client.reviews.list():
                print(item.image.filename, item.image.result.category, item.uncertainty)

        Args:
            order: UNCERTAINTY: those between whose best predictions the model decides least;
                DISAGREEMENT: those whose most similar images show another category. Each call
                compares 200 more images.
            filters: see `ReviewFilters`.

        Raises:
            TypeError: a filter is unknown, or a time has no time zone.
            ValueError: there is no such order.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = _review_wire.list_request(order, filters)
        stub = self._connection.stubs.reviews.ListReviewItems
        async for page in self._connection.pages(stub, request):
            for wire in page.items:
                yield _review_wire.item(wire)

    async def skip(self, image_id: str) -> ReviewItem:
        """Puts an image aside, for all reviewers.

        Raises:
            ImageNotFound: no such image is in the queue.
        """
        request = review_pb2.SkipReviewItemRequest(image_id=image_id)
        stub = self._connection.stubs.reviews.SkipReviewItem
        return _review_wire.item(await self._connection.call(stub, request))

    async def agreement(
        self,
        *,
        model: str = "",
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> ReviewAgreement:
        """Returns how far reviewers agree about the results that two or more have judged.

        Args:
            model: only of results of this model.
            start_time: only judgements of then or later; with a time zone.
            end_time: only judgements before; with a time zone.

        Raises:
            TypeError: a time has no time zone.
            CategorizerError: see `image_categorizer.errors`.
        """
        request = review_pb2.GetReviewAgreementRequest(model=model)
        _review_wire.set_time(request, "start_time", start_time)
        _review_wire.set_time(request, "end_time", end_time)
        stub = self._connection.stubs.reviews.GetReviewAgreement
        return _review_wire.agreement(await self._connection.call(stub, request))
