"""Domain → wire: batches and their results."""

from datetime import datetime

import grpc
from google.protobuf import any_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import batch_pb2, classify_pb2, types_pb2

from image_categorizer_server.domain.batch import Batch, ItemError, ItemResult
from image_categorizer_server.domain.classification import ClassifyOptions
from image_categorizer_server.rpc import convert

OK = status_pb2.Status()


def batch(value: Batch) -> batch_pb2.Batch:
    """Returns one batch."""
    wire = batch_pb2.Batch(
        batch_id=value.batch_id,
        state=batch_pb2.Batch.State.Value(value.state.value),
        state_message=value.state_message,
        item_count=value.item_count,
        succeeded_count=value.succeeded_count,
        failed_count=value.failed_count,
        pending_count=value.pending_count,
        create_time=timestamp(value.create_time),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
        options=options(value.config.options),
        webhook_url=value.config.webhook_url,
        failures=map(failure, value.failures),
        items_per_s=value.items_per_s,
    )
    if value.remaining_s is not None:
        wire.remaining_time.FromMilliseconds(round(value.remaining_s * 1000))
    return wire


def options(value: ClassifyOptions) -> classify_pb2.ClassifyOptions:
    """Returns options as they were asked for."""
    return classify_pb2.ClassifyOptions(
        model=value.model,
        version="" if value.version is None else str(value.version),
        confidence_threshold=value.confidence_threshold,
        top_k=value.top_k,
        include_categories=value.include_categories,
        exclude_categories=value.exclude_categories,
        bounding_boxes=value.bounding_boxes,
        no_cache=value.no_cache,
    )


def failure(value: ItemResult) -> batch_pb2.BatchFailure:
    """Returns an item that failed."""
    return batch_pb2.BatchFailure(
        item_id=str(value.number), filename=value.filename, status=status(value.error)
    )


def result(value: ItemResult) -> batch_pb2.BatchResult:
    """Returns the outcome of one item."""
    wire = batch_pb2.BatchResult(
        item_id=str(value.number), filename=value.filename, status=status(value.error)
    )
    if value.model is not None:
        model = types_pb2.ModelRef(
            name=value.model.name, version=str(value.model.version), digest=value.model.digest
        )
        wire.classification.model.CopyFrom(model)
        wire.classification.predictions.extend(map(convert.prediction, value.predictions))
    return wire


def status(error: ItemError | None) -> status_pb2.Status:
    """Returns why an item failed, or code 0."""
    if error is None:
        return OK
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=convert.DOMAIN))
    code = grpc.StatusCode[error.status].value[0]
    return status_pb2.Status(code=code, message=error.message, details=[detail])


def timestamp(time: datetime | None) -> Timestamp | None:
    """Returns a time; None stays absent."""
    if time is None:
        return None
    wire = Timestamp()
    wire.FromDatetime(time)
    return wire
