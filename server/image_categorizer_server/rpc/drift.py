"""MetadataService: drift."""

from datetime import date, timedelta

import grpc
from image_categorizer.v1 import drift_pb2

from image_categorizer_server import clock
from image_categorizer_server.domain.drift import Bucket, Counts, Days, Drift
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.usage import date_in
from image_categorizer_server.rpc.validation import raise_if_any, required, version_or_alias
from image_categorizer_server.services.drift import MAX_WINDOW_DAYS, Drifts

Request = drift_pb2.GetDriftRequest


class DriftServicer:
    """Serves the RPC of MetadataService about drift."""

    def __init__(self, drifts: Drifts) -> None:
        self._drifts = drifts

    async def GetDrift(
        self, request: Request, context: grpc.aio.ServicerContext[Request, drift_pb2.Drift]
    ) -> drift_pb2.Drift:
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        version = version_or_alias(request.version, wrong)
        window = _window(request, wrong)
        reference = _reference(request, wrong)
        raise_if_any(wrong)
        return _drift(
            await self._drifts.drift(current_tenant(), request.model, version, window, reference)
        )


def _window(request: Request, wrong: list[tuple[str, str]]) -> Days | None:
    count = request.window_days or 1
    if not 1 <= count <= MAX_WINDOW_DAYS:
        wrong.append(("window_days", f"must be in [0, {MAX_WINDOW_DAYS}], is {count}"))
        return None
    end = date_in("end_date", request.end_date, wrong) or clock.now().date()
    if end.year <= date.min.year:
        wrong.append(("end_date", "must be after the year 1"))
        return None
    return Days(end - timedelta(days=count - 1), end)


def _reference(request: Request, wrong: list[tuple[str, str]]) -> Days | None:
    fields = "reference_start_date", "reference_end_date"
    first, last = (date_in(field, getattr(request, field), wrong) for field in fields)
    if bool(request.reference_start_date) != bool(request.reference_end_date):
        missing = fields[bool(request.reference_start_date)]
        wrong.append((missing, "is required if the other end of the reference is given"))
    return Days(first, last) if first and last else None


def _drift(value: Drift) -> drift_pb2.Drift:
    return drift_pb2.Drift(
        model=value.version.model,
        version=str(value.version.number),
        state=drift_pb2.Drift.State.Value(value.state.value),
        category_index=value.category_index,
        confidence_index=value.confidence_index,
        window=_period(value.window),
        reference=_period(value.reference),
        categories=map(_bucket, value.categories),
        confidences=map(_bucket, value.confidences),
    )


def _period(value: Counts) -> drift_pb2.DriftPeriod:
    return drift_pb2.DriftPeriod(
        start_date=value.days.first.isoformat(),
        end_date=value.days.last.isoformat(),
        images=value.images,
    )


def _bucket(value: Bucket) -> drift_pb2.DriftBucket:
    return drift_pb2.DriftBucket(
        name=value.name,
        window_share=value.window_share,
        reference_share=value.reference_share,
        contribution=value.contribution,
    )
