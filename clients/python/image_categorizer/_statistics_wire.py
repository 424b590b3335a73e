"""Converts protobuf messages about a server process to the clients' values."""

from collections.abc import Iterable
from datetime import UTC

from image_categorizer._statistics_values import (
    Distribution,
    ModelStatistics,
    PendingWork,
    ServerStatistics,
)
from image_categorizer.v1 import statistics_pb2


def statistics(wire: statistics_pb2.ServerStatistics) -> ServerStatistics:
    """Returns what a process has counted."""
    return ServerStatistics(
        process_id=wire.process_id,
        release=wire.release,
        start_time=wire.start_time.ToDatetime(UTC),
        read_time=wire.read_time.ToDatetime(UTC),
        in_flight_count=wire.in_flight_count,
        calls={(call.method, call.code): call.count for call in wire.calls},
        errors=_counts(wire.errors),
        cache_lookups=_counts(wire.cache_lookups),
        event_loop_lag_s=_distribution(wire.event_loop_lag_s),
        models=tuple(map(_model, wire.models)),
        pending=PendingWork(
            chunk_count=wire.pending.chunk_count,
            message_count=wire.pending.message_count,
            delivery_count=wire.pending.delivery_count,
        ),
    )


def _model(wire: statistics_pb2.ModelStatistics) -> ModelStatistics:
    return ModelStatistics(
        model=wire.model,
        version=wire.version,
        queue_depth=wire.queue_depth,
        images=_counts(wire.images),
        dropped_images=_counts(wire.dropped_images),
        executions=_counts(wire.executions),
        micro_batch_images=_distribution(wire.micro_batch_images),
        queue_s=_distribution(wire.queue_s),
        decode_s=_distribution(wire.decode_s),
        inference_s=_distribution(wire.inference_s),
    )


def _counts(wire: Iterable[statistics_pb2.LabelCount]) -> dict[str, float]:
    return {count.label: count.count for count in wire}


def _distribution(wire: statistics_pb2.Distribution) -> Distribution:
    return Distribution(tuple(wire.upper_bounds), tuple(wire.counts), wire.sum)
