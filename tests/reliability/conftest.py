"""Installations whose settings make one promise visible; stores that all tests share."""

import json
from collections.abc import AsyncIterator, Callable, Iterator

import psutil
import pytest

from tests.support.house import QUICK, House, open_house
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
async def open_stores(clean_environment, tmp_path_factory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
async def house(open_stores) -> AsyncIterator[House]:
    await open_stores.empty()
    for name in ("server", "worker", "workers"):
        (open_stores.folder / f"{name}.log").unlink(missing_ok=True)
    open_stores.variables = dict(QUICK)
    yield open_stores
    open_stores.end_all()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()
