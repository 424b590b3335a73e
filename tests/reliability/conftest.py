"""One set of stores for all tests; each finds the tables and the bucket empty."""

from collections.abc import AsyncIterator

import pytest

from tests.reliability.house import QUICK, House, open_house
from tests.reliability.ledger import Ledger


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
