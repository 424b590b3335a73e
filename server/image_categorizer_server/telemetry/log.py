"""Logs: one line per event, with the ids of the request.

Our own lines and those of libraries pass through the same structlog processors.  They are colored
text on a terminal, and JSON elsewhere.
"""

import logging
import re
import secrets
import sys
import threading
import time
from contextvars import ContextVar
from typing import Literal

import structlog

from image_categorizer_server.telemetry.refusals import FewRefusals

Log = structlog.stdlib.BoundLogger
# W3C Trace Context, section 3.2: version, trace id, parent id, flags.
TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_request: ContextVar[tuple[str, str]] = ContextVar("request", default=("", ""))
_tenant: ContextVar[str] = ContextVar("tenant", default="")
OWN = ("image_categorizer", "image_categorizer_server", "image_categorizer_workers", "__main__")
# A library may log once for each request, or for each tag of an image.
FOREIGN_LINES, FOREIGN_WINDOW_S = 10, 60.0
MAX_FOREIGN_CHARACTERS = 500
# Keys, secrets of webhooks, JSON web tokens, and passwords in addresses.
SECRET = re.compile(
    r"\b(?P<kind>ic_|whsec_|eyJ)[A-Za-z0-9+/_-]{16,}(\.[A-Za-z0-9_-]+)*=*"
    r"|(?<=://)[^\s/:@]*:[^\s@]+(?=@)"
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def configure_logging(
    level: str, log_format: Literal["auto", "console", "json"], refusals_per_s: int = 0
) -> None:
    """Sends all logs of the process to standard error. Called once, by an entry point.

    Args:
        level: of our own lines. Libraries log at WARNING and above: below that, they show contents
            of messages and files.
        log_format: text, JSON, or by what standard error is.
        refusals_per_s: maximum lines a second of calls refused for the same reason; 0 for all.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        _add_request,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The default formatter prints local variables, which may include credentials.
    plain = structlog.dev.plain_traceback
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    formatter = _Formatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(ForeignLines())
    own_level = logging.getLevelNamesMapping()[level]
    logging.basicConfig(level=max(own_level, logging.WARNING), handlers=[handler], force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(own_level)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # first, so that suppressed lines cost nothing more
            FewRefusals(refusals_per_s),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def without_secrets(text: str) -> str:
    """Returns a text in which `[hidden]` stands for what looks like a secret.

    Nothing of ours logs one.  But a client may write its key where a name belongs, and a library
    may log an address.
    """
    return SECRET.sub(lambda found: f"{found['kind'] or ''}[hidden]", text)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class ForeignLines(logging.Filter):
    """Lets a few lines a minute of each library pass, shortened; says how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the line may be written."""
        library = record.name.partition(".")[0]
        if library in OWN:
            return True
        now = time.monotonic()
        with self._lock:
            start, count = self._counts.get(library, (now, 0))
            held_back = 0
            if now - start >= FOREIGN_WINDOW_S:
                held_back, start, count = max(0, count - FOREIGN_LINES), now, 0
            self._counts[library] = start, count + 1
        if count >= FOREIGN_LINES:
            return False
        message = record.getMessage()
        if len(message) > MAX_FOREIGN_CHARACTERS:
            message = f"{message[:MAX_FOREIGN_CHARACTERS]}…"
        if held_back:
            message += f" ({held_back} earlier lines of this library were held back)"
        record.msg, record.args = message, ()
        return True


def get_log(name: str) -> Log:
    """Returns a logger that adds the ids bound by `bind_request`."""
    log: Log = structlog.stdlib.get_logger(name)
    return log


def request_id_of(header: str | None) -> str:
    """Returns the caller's request id if it is well-formed, otherwise a new one."""
    return header if header and REQUEST_ID.fullmatch(header) else secrets.token_hex(16)


def trace_id_of(traceparent: str | None) -> str:
    """Returns the trace id of a W3C `traceparent` header; empty if there is none."""
    match = TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else ""


def bind_request(request_id: str, trace_id: str) -> None:
    """Adds the ids to every log line of the current task."""
    _request.set((request_id, trace_id))


def bind_trace(trace_id: str) -> None:
    """Adds the id of a trace to every log line of the current task."""
    _request.set((_request.get()[0], trace_id))


def name_tenant(tenant_id: str) -> None:
    """Adds the tenant to every log line of the current task; nothing if it is empty."""
    _tenant.set(tenant_id)


def _add_request(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    request_id, trace_id = _request.get()
    if request_id:
        event["request_id"] = request_id
    if trace_id:
        event["trace_id"] = trace_id
    if tenant_id := _tenant.get():
        event["tenant_id"] = tenant_id
    return event
