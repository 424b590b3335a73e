"""A circuit breaker: after repeated failures, calls fail at once until a dependency answers again.

    closed ── 3 failures in a row ──▶ open ── a probe succeeds ──▶ closed

Nygard, "Release It!" (2007), with one difference: no caller has to wait to find out whether the
dependency answers again.  A background task does that.
"""

import asyncio
from collections.abc import Awaitable, Callable

from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.tasks import TaskOwner
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
FAILURES_TO_OPEN = 3
PROBE_INTERVAL_S = 1.0


class CircuitBreaker:
    """Counts the failures of one dependency and says whether to call it."""

    def __init__(self, name: str, probe: Callable[[], Awaitable[None]], tasks: TaskOwner) -> None:
        """Creates a closed breaker.

        Args:
            name: the dependency, in log lines and error messages.
            probe: calls the dependency; raises DependencyDown while it does not answer.
            tasks: owns the background probe.
        """
        self._name = name
        self._probe = probe
        self._tasks = tasks
        self._failures_in_a_row = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        # A probe that died of a bug leaves the breaker closed: the next failures open it again.
        return self._probing is not None and not self._probing.done()

    def check(self) -> None:
        """Passes while the breaker is closed.

        Raises:
            DependencyDown: the breaker is open.
        """
        if self.is_open:
            raise DependencyDown(f"{self._name} is not answering at present")

    def record_success(self) -> None:
        """Records that the dependency answered, if only with an error."""
        self._failures_in_a_row = 0

    def record_failure(self, error: Exception) -> None:
        """Records that the dependency did not answer; the third time in a row opens the breaker."""
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_TO_OPEN and not self.is_open:
            log.warning("a dependency does not answer", dependency=self._name, error=repr(error))
            self._probing = self._tasks.start(self._close_on_answer(), f"{self._name} probe")

    async def _close_on_answer(self) -> None:
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            try:
                await self._probe()
            except DependencyDown:
                continue
            log.info("a dependency answers again", dependency=self._name)
            self._failures_in_a_row = 0
            return
