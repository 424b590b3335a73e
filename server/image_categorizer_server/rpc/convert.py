"""Domain → wire: answers and errors."""

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import classify_pb2, metadata_pb2, types_pb2

from image_categorizer_server.domain.classification import Category, Classification, Prediction
from image_categorizer_server.domain.model import ModelStatus, ServerInfo
from image_categorizer_server.errors import CategorizerError, InvalidRequest, Unavailable
from image_categorizer_server.rpc.call import Call

DOMAIN = "image-categorizer"
# Errors travel as HTTP/2 headers, of which gRPC takes 8 KB by default.
MOST_MESSAGE_CHARACTERS = 500
MOST_VIOLATIONS = 10


def classify_response(classification: Classification, call: Call) -> classify_pb2.ClassifyResponse:
    """Returns the answer to a classification."""
    model, timing = classification.model, classification.timing
    return classify_pb2.ClassifyResponse(
        success=True,
        predictions=[prediction(p) for p in classification.predictions],
        processing_time=call.elapsed_s,
        model=types_pb2.ModelRef(name=model.name, version=str(model.version), digest=model.digest),
        timing=types_pb2.Timing(
            decode_ms=timing.decode_ms,
            queue_ms=timing.queue_ms,
            inference_ms=timing.inference_ms,
            batch_size=timing.batch_size,
            batch_close_reason=types_pb2.Timing.BatchCloseReason.Value(
                timing.batch_close_reason.value
            ),
        ),
        request_id=call.request_id,
        cache=classify_pb2.ClassifyResponse.Cache.Value(classification.cache.value),
        heat_map=classification.heat_map,
    )


def prediction(value: Prediction) -> types_pb2.Prediction:
    """Returns one prediction."""
    return types_pb2.Prediction(
        category=value.category.name,
        confidence=value.confidence,
        bounding_box=value.bounding_box,
        category_id=value.category.category_id,
        ancestors=value.category.ancestors,
    )


def category(value: Category) -> metadata_pb2.Category:
    """Returns one category."""
    return metadata_pb2.Category(
        category=value.name, category_id=value.category_id, ancestors=value.ancestors
    )


def model(status: ModelStatus) -> metadata_pb2.Model:
    """Returns one model version."""
    return metadata_pb2.Model(
        name=status.ref.name,
        version=str(status.ref.version),
        digest=status.ref.digest,
        state=metadata_pb2.Model.State.Value(status.state.value),
        state_message=status.state_message,
        default=status.is_default,
        category_count=len(status.categories),
        input_width_px=status.input_width_px,
        input_height_px=status.input_height_px,
        activation=metadata_pb2.Model.Activation.Value(status.activation.upper()),
        runtime=status.runtime,
        device=status.device,
        licence=status.licence,
        origin=status.origin,
        aliases=status.aliases,
        canary_percent=status.canary_percent,
        precision=status.precision,
        localization=metadata_pb2.Model.Localization.Value(status.localization.value),
    )


def server_info(info: ServerInfo) -> metadata_pb2.ServerInfo:
    """Returns release, formats and limits."""
    return metadata_pb2.ServerInfo(
        version=info.version,
        image_formats=info.image_formats,
        default_model=info.default_model,
        limits=metadata_pb2.Limits(
            max_image_bytes=info.max_image_bytes,
            max_image_pixels=info.max_image_pixels,
            max_side_px=info.max_side_px,
            max_aspect_ratio=info.max_aspect_ratio,
            max_filter_categories=info.max_filter_categories,
            default_deadline_s=info.default_deadline_s,
            max_deadline_s=info.max_deadline_s,
            max_stream_in_flight=info.max_stream_in_flight,
            max_batch_items=info.max_batch_items,
            max_batch_bytes=info.max_batch_bytes,
        ),
    )


def status(error: CategorizerError) -> status_pb2.Status:
    """Returns the error as google.rpc.Status, with the details that programs act on (AIP-193)."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidRequest) and error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=_short(text))
            for field, text in error.violations[:MOST_VIOLATIONS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, Unavailable):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(retry)
    return status_pb2.Status(
        code=grpc.StatusCode[error.status].value[0],
        message=_short(error.message),
        details=map(_packed, details),
    )


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _short(text: str) -> str:
    return text if len(text) <= MOST_MESSAGE_CHARACTERS else f"{text[:MOST_MESSAGE_CHARACTERS]} ..."
