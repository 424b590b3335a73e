"""What is known of the call that the current task serves."""

import math
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from image_categorizer_server.domain.access import Principal


@dataclass(slots=True)
class Call:
    """One RPC, or one item of a stream, from its arrival."""

    request_id: str
    principal: Principal | None = None
    """Set once authenticated; None for public RPCs."""
    deadline_s: float = math.inf
    """When the answer must be ready, on the clock of `time.monotonic`."""
    on_behalf_of: str = ""
    """The tenant that a worker names; empty where the caller is to be served as its own."""
    readmit: Callable[[], Awaitable[None]] | None = None
    """Checks once more that the caller may call; only streams last long enough to need it."""
    start_s: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the arrival."""
        return time.perf_counter() - self.start_s

    @property
    def tenant_id(self) -> str:
        """Whose the call is: the caller's tenant, or the one that a worker names."""
        assert self.principal is not None, "public RPCs have no tenant"
        return self.on_behalf_of or self.principal.tenant_id


current_call: ContextVar[Call] = ContextVar("current_call")
