"""Records the events of every image as JSON lines; for tests (`CATEGORIZER_TEST__TRACE`).

    {"event": "admit", "id": 7, "time_s": 12.5, "lane": "BATCH", "deadline_s": 22.5}
    {"event": "decode", "id": 7, …}
    {"event": "batch", "ids": [7, 8], "size": 2, "reason": "FULL", …}
    {"event": "locate", "id": 7, "ms": 31.5, …}
    {"event": "result", "id": 7, …}
    {"event": "drop", "id": 9, "reason": "DEADLINE_EXCEEDED", …}

Times are seconds on the monotonic clock.
"""

import json
import threading
import time
from pathlib import Path
from typing import Self


class Trace:
    """Appends events to a file, from any thread."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, event: str, **fields: object) -> None:
        """Appends one event with the current time."""
        line = json.dumps({"event": event, "time_s": time.monotonic(), **fields})
        with self._lock:
            self._file.write(f"{line}\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
