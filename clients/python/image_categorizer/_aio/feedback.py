"""The asyncio client's feedback."""

from collections.abc import AsyncIterator

from image_categorizer import _feedback_wire, _wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer._feedback_values import Feedback
from image_categorizer.v1 import feedback_pb2


class AsyncFeedbackBook:
    """What the tenant's people say about results of stored images: `client.feedback`.

    `client.images.correct` gives the feedback that is given most often.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def confirm(
        self, image_id: str, *, result_id: str = "", look_alike_bits: int | None = None
    ) -> Feedback:
        """Says that the first prediction of a result is right.

        Args:
            image_id: the stored image.
            result_id: default: the newest of the image.
            look_alike_bits: says the same about images that look like it, unless somebody has
                judged them: those whose perceptual hashes differ by at most so many bits, 0 to 10.
                The answer names them.

        Raises:
            InvalidRequest: nothing was predicted.
            ImageNotFound: there is no such image.
            ResultNotFound: it has no such result.
        """
        request = _feedback_wire.confirm_request(image_id, result_id, look_alike_bits)
        return await self._submitted(request)

    async def reject(
        self, image_id: str, *, result_id: str = "", look_alike_bits: int | None = None
    ) -> Feedback:
        """Says that the image shows no category of the model: similar ones become `UNKNOWN`.

        Args:
            image_id: the stored image.
            result_id: default: the newest of the image.
            look_alike_bits: see `confirm`.

        Raises:
            ImageNotFound: there is no such image.
            ResultNotFound: it has no such result.
        """
        request = _feedback_wire.reject_request(image_id, result_id, look_alike_bits)
        return await self._submitted(request)

    @listing
    async def list(self, *, image_id: str = "") -> AsyncIterator[Feedback]:
        """Yields the feedback, newest first, with what was undone.

        Args:
            image_id: only feedback about this image.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = feedback_pb2.ListFeedbackRequest(page_size=_wire.PAGE_SIZE, image_id=image_id)
        stub = self._connection.stubs.feedback.ListFeedback
        async for page in self._connection.pages(stub, request):
            for wire in page.feedback:
                yield _feedback_wire.feedback(wire)

    async def undo(self, feedback_id: str) -> Feedback:
        """Undoes feedback: answers are again as if it had not been given.

        Raises:
            FeedbackNotFound: there is no such feedback.
        """
        request = feedback_pb2.UndoFeedbackRequest(feedback_id=feedback_id)
        return _feedback_wire.feedback(
            await self._connection.call(self._connection.stubs.feedback.UndoFeedback, request)
        )

    async def _submitted(self, request: feedback_pb2.SubmitFeedbackRequest) -> Feedback:
        return _feedback_wire.feedback(
            await self._connection.call(self._connection.stubs.feedback.SubmitFeedback, request)
        )
