"""What a caller may be told of an exception: the one place that decides it."""

from image_categorizer_server.errors import CategorizerError
from image_categorizer_server.rpc.call import Call
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)


def failure_of(error: Exception, method: str, call: Call) -> CategorizerError:
    """Returns an expected error as it is, a bug as INTERNAL with the request id; logs both."""
    if isinstance(error, CategorizerError):
        log.info("refused", method=method, reason=error.reason, message=error.message)
        return error
    log.error("a bug", method=method, exc_info=error)
    return CategorizerError(f"internal error; the server's log has request {call.request_id}")
