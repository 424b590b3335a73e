"""AdminService: what the server process counts."""

from collections.abc import Mapping

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from image_categorizer.v1 import statistics_pb2

from image_categorizer_server.domain.statistics import Distribution, ModelStatistics
from image_categorizer_server.services.statistics import read_statistics

Request = statistics_pb2.GetServerStatisticsRequest
Response = statistics_pb2.ServerStatistics


class StatisticsServicer:
    """Serves the RPC of AdminService about the server process."""

    async def GetServerStatistics(
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        """Returns what this process has counted."""
        found = await read_statistics()
        response = Response(
            process_id=found.process_id,
            release=found.release,
            start_time=Timestamp(),
            read_time=Timestamp(),
            in_flight_count=found.in_flight_count,
            calls=(
                statistics_pb2.CallCount(method=method, code=code, count=count)
                for (method, code), count in sorted(found.calls.items())
            ),
            errors=_counts(found.errors),
            cache_lookups=_counts(found.cache_lookups),
            event_loop_lag_s=_distribution(found.event_loop_lag_s),
            models=map(_model, found.models),
            pending=statistics_pb2.PendingWork(
                chunk_count=found.pending.chunk_count,
                message_count=found.pending.message_count,
                delivery_count=found.pending.delivery_count,
            ),
        )
        response.start_time.FromDatetime(found.start_time)
        response.read_time.FromDatetime(found.read_time)
        return response


def _model(model: ModelStatistics) -> statistics_pb2.ModelStatistics:
    return statistics_pb2.ModelStatistics(
        model=model.model,
        version=model.version,
        queue_depth=model.queue_depth,
        images=_counts(model.images),
        dropped_images=_counts(model.dropped_images),
        executions=_counts(model.executions),
        micro_batch_images=_distribution(model.micro_batch_images),
        queue_s=_distribution(model.queue_s),
        decode_s=_distribution(model.decode_s),
        inference_s=_distribution(model.inference_s),
    )


def _counts(counts: Mapping[str, float]) -> list[statistics_pb2.LabelCount]:
    return [
        statistics_pb2.LabelCount(label=label, count=count)
        for label, count in sorted(counts.items())
    ]


def _distribution(values: Distribution) -> statistics_pb2.Distribution:
    return statistics_pb2.Distribution(
        upper_bounds=values.upper_bounds, counts=values.counts, sum=values.sum
    )
