"""Domain → wire: batches and their results."""

from google.rpc import status_pb2
from image_categorizer.v1 import batch_pb2, types_pb2

from image_categorizer_server.domain.batch import Batch, ItemError, ItemResult
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.options import options_to_wire
from image_categorizer_server.rpc.status import new_status

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
        ignored_count=value.ignored_count,
        create_time=timestamp(value.create_time),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
        options=options_to_wire(value.config.options),
        webhook_url=value.config.webhook_url,
        failures=map(failure, value.failures),
        items_per_s=value.items_per_s,
    )
    if value.remaining_s is not None:
        wire.remaining_time.FromMilliseconds(round(value.remaining_s * 1000))
    return wire


def failure(value: ItemResult) -> batch_pb2.BatchFailure:
    """Returns the failure of one item."""
    return batch_pb2.BatchFailure(
        item_id=str(value.number), filename=value.filename, status=status(value.error)
    )


def result(value: ItemResult) -> batch_pb2.BatchResult:
    """Returns the outcome of one item."""
    wire = batch_pb2.BatchResult(
        item_id=str(value.number), filename=value.filename, status=status(value.error)
    )
    if value.model is not None:
        wire.classification.model.CopyFrom(convert.model_ref(value.model))
        wire.classification.predictions.extend(map(convert.prediction, value.predictions))
        wire.classification.warnings.extend(map(types_pb2.ImageWarning.Value, value.warnings))
    return wire


def status(error: ItemError | None) -> status_pb2.Status:
    """Returns the status of an item; code 0 if it succeeded."""
    return OK if error is None else new_status(error.status, error.reason, error.message)
