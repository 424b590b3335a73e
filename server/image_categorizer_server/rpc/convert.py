"""Domain ↔ wire: values that several services answer with, or are asked with."""

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from image_categorizer.v1 import types_pb2

from image_categorizer_server.domain.classification import (
    ModelRef,
    Neighbour,
    Prediction,
    Source,
)

WIRE_SOURCES = types_pb2.Prediction.Source


def prediction(value: Prediction) -> types_pb2.Prediction:
    """Returns one prediction."""
    return types_pb2.Prediction(
        category=value.category.name,
        confidence=value.confidence,
        bounding_box=value.bounding_box,
        category_id=value.category.category_id,
        ancestors=value.category.ancestors,
        raw_confidence=value.raw_confidence,
        source=None if value.source is Source.MODEL else WIRE_SOURCES.Value(value.source.value),
        bounding_boxes=[types_pb2.BoundingBox(**box._asdict()) for box in value.bounding_boxes],
    )


def neighbour(value: Neighbour) -> types_pb2.Neighbour:
    """Returns a similar image."""
    return types_pb2.Neighbour(image_id=value.image_id, similarity=value.similarity)


def model_ref(value: ModelRef) -> types_pb2.ModelRef:
    """Returns the name of a model version."""
    return types_pb2.ModelRef(name=value.name, version=str(value.version), digest=value.digest)


def timestamp(time: datetime | None) -> Timestamp | None:
    """Returns a time; None stays None."""
    if time is None:
        return None
    wire = Timestamp()
    wire.FromDatetime(time)
    return wire


def moment(request: Message, field: str, wrong: list[tuple[str, str]]) -> datetime | None:
    """Returns the time in a field of a request; None if it is not set, or not valid.

    Args:
        request: has the field, of the type Timestamp.
        field: its name.
        wrong: gets what is wrong with it.
    """
    if not request.HasField(field):
        return None
    found: Timestamp = getattr(request, field)
    try:
        return found.ToDatetime(UTC)
    except ValueError:
        wrong.append((field, "is not a time between the years 1 and 9999"))
        return None
