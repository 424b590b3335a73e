"""Installations with settings of their own, and a cluster that all tests share."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.cluster import Cluster, open_cluster
from tests.support.ledger import Ledger
from tests.support.up import Up, free_port

Start = Callable[..., Up]


@pytest.fixture
def installation(clean_environment, tmp_path) -> Iterator[Start]:
    """Starts `up` with some settings, and stops it after the test."""
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


@pytest.fixture(scope="session")
async def shared_cluster(clean_environment, tmp_path_factory) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def cluster(shared_cluster) -> AsyncIterator[Cluster]:
    await shared_cluster.reset()
    yield shared_cluster
    shared_cluster.end_all()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()
