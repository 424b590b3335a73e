"""Few log lines of many refused calls: a server that sheds load would write thousands a second."""

import threading
import time

import structlog

EVENT = "refused"
WINDOW_S = 1.0


class FewRefusals:
    """Lets so many lines a second of each reason pass. The next line says how many it held back.

    It is a processor of structlog.
    """

    def __init__(self, per_s: int) -> None:
        """Lets all lines pass if `per_s` is 0."""
        self._per_s = per_s
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def __call__(
        self, _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Returns the line.

        Raises:
            structlog.DropEvent: it is one too many.
        """
        if not self._per_s or event.get("event") != EVENT:
            return event
        with self._lock:
            window = self._windows.setdefault(str(event.get("reason")), _Window())
            held_back = window.passed(self._per_s, time.monotonic())
        if held_back is None:
            raise structlog.DropEvent
        return {**event, "not_logged": held_back} if held_back else event


class _Window:
    def __init__(self) -> None:
        self._start_s = -WINDOW_S
        self._count = 0
        self._held_back = 0

    def passed(self, limit: int, now_s: float) -> int | None:
        """Returns how many lines were held back before this one; None if it is held back."""
        if now_s - self._start_s >= WINDOW_S:
            self._start_s, self._count = now_s, 0
        self._count += 1
        if self._count > limit:
            self._held_back += 1
            return None
        held_back, self._held_back = self._held_back, 0
        return held_back
