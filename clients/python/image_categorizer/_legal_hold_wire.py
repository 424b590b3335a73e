"""Converts protobuf messages about legal holds to the clients' values."""

from datetime import UTC

from image_categorizer._legal_hold_values import LegalHold
from image_categorizer.v1 import legal_hold_pb2


def legal_hold(wire: legal_hold_pb2.LegalHold) -> LegalHold:
    """Returns a legal hold."""
    return LegalHold(
        hold_id=wire.hold_id,
        image_id=wire.image_id,
        subject_key=wire.subject_key,
        whole_tenant=wire.whole_tenant,
        reference=wire.reference,
        create_time=wire.create_time.ToDatetime(UTC),
        end_time=wire.end_time.ToDatetime(UTC) if wire.HasField("end_time") else None,
    )
