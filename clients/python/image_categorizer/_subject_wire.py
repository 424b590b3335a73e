"""Converts protobuf messages about subjects to the clients' values."""

from datetime import UTC

from image_categorizer._subject_values import Erasure
from image_categorizer.v1 import subject_pb2


def erasure(wire: subject_pb2.Erasure) -> Erasure:
    """Returns an erasure."""
    return Erasure(
        erasure_id=wire.erasure_id,
        subject_key=wire.subject_key,
        state=subject_pb2.Erasure.State.Name(wire.state),
        removed={removed.place: removed.count for removed in wire.removed},
        certificate=wire.certificate,
        create_time=wire.create_time.ToDatetime(UTC),
        end_time=wire.end_time.ToDatetime(UTC) if wire.HasField("end_time") else None,
        allow_time=wire.allow_time.ToDatetime(UTC) if wire.HasField("allow_time") else None,
    )
