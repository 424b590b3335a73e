"""What is known of the call that the current task serves."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from image_categorizer_server.domain import Principal


@dataclass(slots=True)
class Call:
    """One RPC, from its arrival."""

    request_id: str
    principal: Principal | None = None
    """Set once authenticated; None for public RPCs."""
    start_s: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the arrival."""
        return time.perf_counter() - self.start_s


current_call: ContextVar[Call] = ContextVar("current_call")
