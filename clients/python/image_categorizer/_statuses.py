"""Turns the status of a failed call, or of a failed item, into an error of `errors`."""

from collections.abc import Iterator

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from image_categorizer.errors import (
    CategorizerError,
    DeadlineExceeded,
    FailedPrecondition,
    ImageTooLarge,
    InvalidRequest,
    NotFound,
    RoleInsufficient,
    Unauthenticated,
    Unavailable,
)

DETAILS_HEADER = "grpc-status-details-bin"
PUSHBACK_HEADER = "grpc-retry-pushback-ms"
"""Negative if the call must not be made again (gRPC proposal A6)."""
BY_STATUS: dict[grpc.StatusCode, type[CategorizerError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: RoleInsufficient,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    # The status of a call that reaches a server while it stops.
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    # gRPC itself refuses messages over its size limit with this status.
    grpc.StatusCode.RESOURCE_EXHAUSTED: ImageTooLarge,
}
NO_TLS = "WRONG_VERSION_NUMBER"
"""What OpenSSL says when the server answers a TLS handshake in clear text."""
BROKEN = "Internal error from Core"
"""What grpc.aio says if a message could not be sent before it knew how the call had ended."""
CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> CategorizerError:
    """Returns the error of a failed call: by its reason if it has one, otherwise by its status."""
    assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
    headers = dict(error.trailing_metadata() or ())
    status = _status(headers.get(DETAILS_HEADER))
    message = error.details() or error.code().name
    if NO_TLS in message:
        message = (
            "the server does not use TLS at this address: write http:// in base_url if the network "
            "between is trusted"
        )
    code = error.code()
    if message == BROKEN:
        code, message = grpc.StatusCode.UNAVAILABLE, "the call broke while a message was sent"
    ours = _error(code, message, status, str(headers.get("x-request-id", "")))
    ours.is_final = str(headers.get(PUSHBACK_HEADER, "")).startswith("-")
    return ours


def from_status(status: status_pb2.Status, request_id: str) -> CategorizerError:
    """Returns the error of one item of a stream or a batch."""
    code = CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message or code.name, status, request_id)


def _error(
    code: grpc.StatusCode, message: str, status: status_pb2.Status, request_id: str
) -> CategorizerError:
    by_reason = {cls.reason: cls for cls in _tree(CategorizerError)}
    kind = BY_STATUS.get(code, CategorizerError)
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            kind = by_reason.get(info.reason, kind)
    ours = kind(message)
    ours.status = code.name
    ours.request_id = request_id
    _add_details(ours, status)
    return ours


def _add_details(error: CategorizerError, status: status_pb2.Status) -> None:
    for detail in status.details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad):
            error.violations = [(v.field, v.description) for v in bad.field_violations]
        if detail.Unpack(retry):
            error.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()


def _status(packed: str | bytes | None) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(packed if isinstance(packed, bytes) else b"")
    except DecodeError:
        return status_pb2.Status()


def _tree(root: type[CategorizerError]) -> Iterator[type[CategorizerError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
