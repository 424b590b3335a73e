"""Converts protobuf messages about drift to the clients' values."""

from datetime import date

from image_categorizer._drift_values import Drift, DriftBucket, DriftPeriod, DriftState
from image_categorizer.v1 import drift_pb2


def drift(wire: drift_pb2.Drift) -> Drift:
    """Returns how a window differs from a reference."""
    return Drift(
        model=wire.model,
        version=int(wire.version),
        state=DriftState(drift_pb2.Drift.State.Name(wire.state)),
        category_index=wire.category_index,
        confidence_index=wire.confidence_index,
        window=_period(wire.window),
        reference=_period(wire.reference),
        categories=tuple(map(_bucket, wire.categories)),
        confidences=tuple(map(_bucket, wire.confidences)),
    )


def _period(wire: drift_pb2.DriftPeriod) -> DriftPeriod:
    first, last = map(date.fromisoformat, (wire.start_date, wire.end_date))
    return DriftPeriod(first, last, wire.images)


def _bucket(wire: drift_pb2.DriftBucket) -> DriftBucket:
    return DriftBucket(wire.name, wire.window_share, wire.reference_share, wire.contribution)
