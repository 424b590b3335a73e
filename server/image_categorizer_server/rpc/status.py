"""Converts exceptions to `google.rpc.Status`. Only this module decides what callers see."""

import asyncio
import math
from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from image_categorizer_server.errors import (
    CategorizerError,
    DeadlineUnreachable,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from image_categorizer_server.rpc.call import Call
from image_categorizer_server.rpc.limit import limit_fields
from image_categorizer_server.tasks import detached
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
DOMAIN = "image-categorizer"
# Statuses travel as HTTP/2 headers, which gRPC limits to 8 KB by default.
MAX_MESSAGE_CHARACTERS = 500
MAX_VIOLATIONS = 10
# How long the end of a stream waits for its status to be sent.
STATUS_S = 1.0


def error_for_caller(error: Exception, method: str, call: Call) -> CategorizerError:
    """Returns and logs what the caller sees: an expected error as it is, a bug as INTERNAL."""
    if isinstance(error, CategorizerError):
        log.info("refused", method=method, reason=error.reason, message=error.message)
        return error
    log.error("a bug", method=method, exc_info=error)
    return CategorizerError(f"internal error; the server's log has request {call.request_id}")


def status_of(error: CategorizerError) -> status_pb2.Status:
    """Returns the status with the details that programs act on (AIP-193)."""
    details: list[Message] = []
    if isinstance(error, InvalidRequest) and error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=_short(text))
            for field, text in error.violations[:MAX_VIOLATIONS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if (retry_after_s := _retry_after_s(error)) is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(math.ceil(retry_after_s * 1e9))
        details.append(retry)
    if isinstance(error, QuotaExceeded | RateLimited):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.quota, description=_short(error.message)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    return new_status(error.status, error.reason, error.message, details)


def new_status(
    code: str, reason: str, message: str, details: list[Message] | None = None
) -> status_pb2.Status:
    """Returns a status.

    Args:
        code: name of the gRPC status code.
        reason: name of an `ErrorReason`.
        message: for people.
        details: follow the `google.rpc.ErrorInfo`.
    """
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    return status_pb2.Status(
        code=grpc.StatusCode[code].value[0],
        message=_short(message),
        details=map(_packed, [info, *(details or [])]),
    )


async def abort(
    context: grpc.aio.ServicerContext[Message, Message], error: CategorizerError, call: Call
) -> NoReturn:
    """Ends the call with the status of the error."""
    status = status_of(error)
    trailers: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", call.request_id),
    ]
    if call.http_status:
        trailers.append(("x-http-status", str(call.http_status)))
    if (retry_after_s := _retry_after_s(error)) is not None:
        # For REST clients, in whole seconds (RFC 9110, section 10.2.3).
        trailers.append(("retry-after", str(math.ceil(retry_after_s))))
    if call.decision is not None:
        trailers += limit_fields(call.decision)
    if isinstance(error, Overloaded | DeadlineUnreachable):
        trailers.append(("x-overloaded", "1"))  # the gateway removes it; see shed.lua
    await context.abort(grpc.StatusCode[error.status], status.message, tuple(trailers))


async def abort_stream(
    context: grpc.aio.ServicerContext[Message, Message], error: CategorizerError, call: Call
) -> NoReturn:
    """Ends a call that may have a message on its way, with the status of the error.

    The status follows the message.  If the client does not take that, gRPC keeps both, but nothing
    of ours waits for it.
    """
    aborting = detached(abort(context, error, call))
    await asyncio.wait({aborting}, timeout=STATUS_S)
    if aborting.done():
        aborting.result()
    raise asyncio.CancelledError


def _retry_after_s(error: CategorizerError) -> float | None:
    """Returns the seconds after which a retry may succeed; None if time does not help."""
    if isinstance(error, Unavailable | QuotaExceeded | RateLimited):
        return error.retry_after_s
    return None


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _short(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else f"{text[:MAX_MESSAGE_CHARACTERS]} ..."
