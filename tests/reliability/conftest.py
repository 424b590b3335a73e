"""Installations with settings of their own; stores that all tests share."""

import json
from collections.abc import AsyncIterator, Callable, Iterator

import psutil
import pytest

from tests.support.cluster import QUICK, Cluster, open_cluster
from tests.support.ledger import Ledger
from tests.support.up import Up, free_port

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
        if running.is_running:
            assert running.stop() == 0


def part(running: Up, name: str) -> psutil.Process:
    """Returns the process of one part: server, gateway, redis, postgres."""
    processes = json.loads((running.data / "run" / "processes.json").read_text())
    return psutil.Process(next(p["pid"] for p in processes if p["name"] == name))


@pytest.fixture(scope="session")
async def open_stores(clean_environment, tmp_path_factory) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def cluster(open_stores) -> AsyncIterator[Cluster]:
    await open_stores.empty()
    for name in ("server", "worker", "workers"):
        (open_stores.folder / f"{name}.log").unlink(missing_ok=True)
    open_stores.variables.clear()
    open_stores.variables.update(QUICK)
    yield open_stores
    open_stores.end_all()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()
