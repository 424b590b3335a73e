"""`image-categorizer up` and other commands, as processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.conftest import EXPORTS
from tests.support.polling import wait_until

START_S = 120  # the first start may export the small model
COMMAND = [sys.executable, "-m", "image_categorizer_server"]
# What `up` prints last: an example with a new key, or that there is a key already.
LAST_LINES = ("/v1/classify", "create-admin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_port_pair() -> int:
    """Returns a free port whose successor is free, too."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def environment(**variables: str) -> dict[str, str]:
    """Returns our environment with `variables`, and one cache of exports for all tests.

    Beside the fake model, none is loaded: that takes a second of a core.
    """
    is_fake = "CATEGORIZER_TEST__FAKE_MODEL" in variables
    only_fake = {"CATEGORIZER_MODELS__DEFAULT": "fake", "CATEGORIZER_MODELS__PACKAGED": "false"}
    cache = {"CATEGORIZER_MODELS__CACHE_PATH": str(EXPORTS)}
    return {**os.environ, **cache, **(only_fake if is_fake else {}), **variables}


def command(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs an `image-categorizer` command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class Up:
    """An installation that `image-categorizer up` runs."""

    data: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)
    receiver_port: int = 0
    """Port on this machine that webhooks of the shared installation may be sent to, by HTTP."""
    words: tuple[str, ...] = ()
    """More options of `up`."""
    lines: list[str] = field(default_factory=list)
    """What it has printed."""
    process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Starts it. Returns how many seconds that took."""
        start_s = time.monotonic()
        process = self.process = subprocess.Popen(
            [*COMMAND, "up", "--port", str(self.port), "--data", str(self.data), *self.words],
            env=environment(**self.variables),
            stderr=subprocess.PIPE,
            text=True,
        )
        reader = threading.Thread(target=self._read, args=[process], daemon=True)
        reader.start()

        def is_started() -> bool:
            return any(words in line for line in self.lines for words in LAST_LINES)

        try:
            wait_until(lambda: is_started() or not self.is_running, START_S)
            assert self.is_running
        except AssertionError:
            self.stop()
            reader.join()
            raise AssertionError("\n".join(self.lines)) from None
        return time.monotonic() - start_s

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            self.lines.extend(line.rstrip("\n") for line in process.stderr)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ends it. Returns its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def children(self, *, recursive: bool = False) -> list[psutil.Process]:
        """Returns the processes that it runs."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=recursive)

    def process_of(self, name: str) -> psutil.Process:
        """Returns the process of a component: server, worker, gateway, redis or postgres."""
        processes = json.loads((self.data / "run" / "processes.json").read_text())
        return psutil.Process(next(p["pid"] for p in processes if p["name"] == name))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shown_key(self) -> str | None:
        """Returns the admin key that it printed."""
        found = re.search(r"^ +(ic_\w+)$", "\n".join(self.lines), re.MULTILINE)
        return found[1] if found else None


def await_answer(
    http: httpx.Client,
    path: str,
    condition: Callable[[httpx.Response], object],
) -> None:
    """Sends GET requests until an answer meets the condition."""
    wait_until(lambda: condition(http.get(path)), 30, 0.1)
