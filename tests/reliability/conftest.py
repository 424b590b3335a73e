"""One set of stores for all tests; each finds the tables and the bucket empty."""

import shutil
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.reliability.house import QUICK, House, open_house
from tests.reliability.ledger import Ledger

TABLES = (
    "batches, batch_items, batch_chunks, batch_results, batch_uploads, outbox, webhook_deliveries"
)


@pytest.fixture(scope="session")
async def open_stores(clean_environment, tmp_path_factory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
async def house(open_stores) -> AsyncIterator[House]:
    connection = await asyncpg.connect(open_stores.postgres.url)
    await connection.execute(f"TRUNCATE {TABLES}")
    await connection.close()
    shutil.rmtree(open_stores.folder / "images", ignore_errors=True)
    for name in ("server", "worker", "workers"):
        (open_stores.folder / f"{name}.log").unlink(missing_ok=True)
    open_stores.variables = dict(QUICK)
    yield open_stores
    open_stores.end_all()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()
