"""What a process tells of itself: logs, and metrics in `metrics`."""

from image_categorizer_server.telemetry.log import (
    ForeignLines,
    Log,
    bind_request,
    configure_logging,
    get_log,
    name_tenant,
    request_id_of,
    trace_id_of,
    without_secrets,
)

__all__ = [
    "ForeignLines",
    "Log",
    "bind_request",
    "configure_logging",
    "get_log",
    "name_tenant",
    "request_id_of",
    "trace_id_of",
    "without_secrets",
]
