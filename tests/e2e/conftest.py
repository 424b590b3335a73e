"""One whole installation, as `image-categorizer up` starts it, for all end-to-end tests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.conftest import EXPORTS
from tests.support.threaded_receiver import Receiver, receiving
from tests.support.tiny_model import write_tiny_model

START_S = 120  # the first start may export the starter model
COMMAND = [sys.executable, "-m", "image_categorizer_server"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    """Returns our environment, with exports shared by all tests and `variables` added."""
    return {**os.environ, "CATEGORIZER_MODELS__CACHE_PATH": str(EXPORTS), **variables}


def command(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs one `image-categorizer` command to its end."""
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
    """A running `image-categorizer up`."""

    data: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    receiver_port: int = 0
    """Where the session's `up` may send webhooks on this machine, by http."""

    def start(self) -> float:
        """Starts it; returns after how many seconds it answered."""
        start_s = time.monotonic()
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--port", str(self.port), "--data", str(self.data)],
            env=environment(**self.variables),
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=[self.process], daemon=True).start()
        last_words = "/v1/classify", "create-admin"  # it has shown a key, or says that it did once
        while not any(words in line for line in self.lines for words in last_words):
            if self.process.poll() is not None or time.monotonic() - start_s > START_S:
                self.stop()
                raise AssertionError("\n".join(self.lines))
            time.sleep(0.05)
        return time.monotonic() - start_s

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            self.lines.extend(line.rstrip("\n") for line in process.stderr)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ends it; returns its exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shown_key(self) -> str | None:
        """Returns the admin key that the start showed."""
        found = re.search(r"^ +(ic_\w+)$", "\n".join(self.lines), re.MULTILINE)
        return found[1] if found else None


@pytest.fixture(scope="session")
def up(clean_environment, tmp_path_factory) -> Iterator[Up]:
    receiver_port = free_port()
    variables = {
        "CATEGORIZER_FETCH__ALLOW_HTTP": "true",
        "CATEGORIZER_FETCH__ALLOWED_PORTS": f"[{receiver_port}]",
        "CATEGORIZER_FETCH__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "CATEGORIZER_GATEWAY__CORS_ORIGINS": '["https://app.example"]',
        "CATEGORIZER_MODELS__SCAN_INTERVAL_S": "0.5",
        "CATEGORIZER_SECURITY__KEY_CACHE_S": "1",
        "MAX_IMAGE_SIZE": "2",
    }
    running = Up(tmp_path_factory.mktemp("up"), free_port(), variables)
    running.receiver_port = receiver_port
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def hasty(clean_environment, tmp_path_factory) -> Iterator[Up]:
    """An installation whose deadlines are short, and whose server may be killed."""
    variables = {
        "CATEGORIZER_SERVER__DEFAULT_DEADLINE_S": "1",
        "CATEGORIZER_SERVER__MAX_DEADLINE_S": "1.5",
        "CATEGORIZER_SERVER__UPLOAD_IDLE_S": "3",
        "CATEGORIZER_GATEWAY__STREAM_IDLE_TIMEOUT_S": "5",
    }
    running = Up(tmp_path_factory.mktemp("hasty"), free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def receiver(up) -> Iterator[Receiver]:
    """Where webhooks of the session's `up` may go."""
    with receiving(up.receiver_port) as running:
        yield running


@pytest.fixture(scope="session")
def admin_key(up) -> str:
    key = up.shown_key()
    assert key
    return str(key)


@pytest.fixture(scope="session")
def viewer_key(up) -> str:
    made = command("keys", "create", "viewer", "--role", "viewer", "--json", "--data", up.data)
    return str(json.loads(made.stdout)["key"])


@pytest.fixture(scope="session")
def http(up, admin_key) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {admin_key}"}
    with httpx.Client(base_url=up.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def roses(up, http, tmp_path_factory) -> Iterator[str]:
    """A model of two versions, both READY, without aliases; gone afterwards."""
    name, path = "roses", "/v1/models/roses"
    for version in (1, 2):
        source = write_tiny_model(
            tmp_path_factory.mktemp("roses") / str(version), ["rose", "tulip"], seed=version
        )
        assert command("models", "add", name, source, "--data", up.data).returncode == 0
    await_answer(http, f"{path}?version=2", lambda answer: answer.json().get("state") == "READY")
    yield name
    assert command("models", "remove", name, "--data", up.data).returncode == 0
    await_answer(http, path, lambda answer: answer.status_code == 404)


def await_answer(
    http: httpx.Client, path: str, condition: Callable[[httpx.Response], bool]
) -> None:
    """Asks until the answer is as wanted."""
    deadline_s = time.monotonic() + 30
    while not condition(answer := http.get(path)):
        assert time.monotonic() < deadline_s, answer.text
        time.sleep(0.1)
