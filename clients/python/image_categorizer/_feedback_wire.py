"""Converts between the clients' values about feedback and protobuf messages."""

from datetime import UTC

from image_categorizer._feedback_values import Feedback
from image_categorizer._wire import name_of, time_of
from image_categorizer.v1 import feedback_pb2

Judgement = feedback_pb2.Feedback.Judgement


def wrong_request(
    image_id: str, category: str, result_id: str, look_alike_bits: int | None
) -> feedback_pb2.SubmitFeedbackRequest:
    """Returns the request that says what a stored image shows."""
    return feedback_pb2.SubmitFeedbackRequest(
        image_id=image_id,
        result_id=result_id,
        judgement=Judgement.WRONG,
        category=category,
        look_alike_bits=look_alike_bits,
    )


def confirm_request(
    image_id: str, result_id: str, look_alike_bits: int | None
) -> feedback_pb2.SubmitFeedbackRequest:
    """Returns the request that says that a result is right."""
    return feedback_pb2.SubmitFeedbackRequest(
        image_id=image_id,
        result_id=result_id,
        judgement=Judgement.RIGHT,
        look_alike_bits=look_alike_bits,
    )


def reject_request(
    image_id: str, result_id: str, look_alike_bits: int | None
) -> feedback_pb2.SubmitFeedbackRequest:
    """Returns the request that says that a stored image shows no category of the model."""
    return feedback_pb2.SubmitFeedbackRequest(
        image_id=image_id,
        result_id=result_id,
        judgement=Judgement.NOT_IN_LIST,
        look_alike_bits=look_alike_bits,
    )


def feedback(wire: feedback_pb2.Feedback) -> Feedback:
    """Returns feedback."""
    return Feedback(
        feedback_id=wire.feedback_id,
        image_id=wire.image_id,
        result_id=wire.result_id,
        judgement=name_of(Judgement.Name, wire.judgement),
        category=wire.category,
        create_time=wire.create_time.ToDatetime(UTC),
        undo_time=time_of(wire, "undo_time"),
        reviewer=wire.reviewer,
        look_alike_image_ids=tuple(wire.look_alike_image_ids),
    )
