"""Whole installations of their own, each with settings that make one promise visible."""

import json
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.e2e.conftest import Up, free_port

Start = Callable[..., Up]


@pytest.fixture
def installation(clean_environment, tmp_path) -> Iterator[Start]:
    """Returns how one starts `up` with some settings; stops what was started."""
    started: list[Up] = []

    def start(**variables: str) -> Up:
        running = Up(tmp_path / f"up-{len(started)}", free_port(), variables)
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        if running.process is not None and running.process.poll() is None:
            assert running.stop() == 0


def part(running: Up, name: str) -> psutil.Process:
    """Returns the process of one part: server, gateway, redis, postgres."""
    parts = json.loads((running.data / "run" / "parts.json").read_text())
    return psutil.Process(next(p["pid"] for p in parts if p["name"] == name))
