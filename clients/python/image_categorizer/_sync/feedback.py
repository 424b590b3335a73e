# Generated from _aio/feedback.py by tools/sync_twin.py; do not edit.
"""The client's feedback."""

from collections.abc import Iterator

from image_categorizer import _feedback_wire, _wire
from image_categorizer._feedback_values import Feedback
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.listing import listing
from image_categorizer.v1 import feedback_pb2


class FeedbackBook:
    """What the tenant's people say about results of stored images: `client.feedback`.

    `client.images.correct` gives the feedback that is given most often.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def confirm(
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
        return self._submitted(request)

    def reject(
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
        return self._submitted(request)

    @listing
    def list(self, *, image_id: str = "") -> Iterator[Feedback]:
        """Yields the feedback, newest first, with what was undone.

        Args:
            image_id: only feedback about this image.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = feedback_pb2.ListFeedbackRequest(page_size=_wire.PAGE_SIZE, image_id=image_id)
        stub = self._connection.stubs.feedback.ListFeedback
        for page in self._connection.pages(stub, request):
            for wire in page.feedback:
                yield _feedback_wire.feedback(wire)

    def undo(self, feedback_id: str) -> Feedback:
        """Undoes feedback: answers are again as if it had not been given.

        Raises:
            FeedbackNotFound: there is no such feedback.
        """
        request = feedback_pb2.UndoFeedbackRequest(feedback_id=feedback_id)
        return _feedback_wire.feedback(
            self._connection.call(self._connection.stubs.feedback.UndoFeedback, request)
        )

    def _submitted(self, request: feedback_pb2.SubmitFeedbackRequest) -> Feedback:
        return _feedback_wire.feedback(
            self._connection.call(self._connection.stubs.feedback.SubmitFeedback, request)
        )
