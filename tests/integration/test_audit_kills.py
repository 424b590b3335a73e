"""The audit: four writers that are killed leave a chain without gaps, and no forgery passes."""

import asyncio
import random
import sys
import time

import pytest
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.db import audit
from image_categorizer_server.db.database import connected
from image_categorizer_server.services.audit_verification import verify_audit
from image_categorizer_server.settings.database import DatabaseSettings

from tests.support.audit_forgeries import FORGERIES
from tests.support.audit_tools import forger_of, statements_of
from tests.support.database import open_for_all_tenants

WRITERS = 4
SHORT, LONG = 1_000, 10_000
VERIFIED_WITHIN_S = 5.0
KEY = SigningKey.generate()
TABLES = ("audit_events", "audit_heads", "audit_statements")


@pytest.fixture
async def patient_database(empty_database):
    """The address of the empty database, open for statements that take long."""
    async with open_for_all_tenants(empty_database, DatabaseSettings(timeout_s=60)):
        yield empty_database


async def write_until_killed(url: str, name: str, number: int, kill_after: int) -> int:
    """Runs a writer until it has acknowledged `kill_after` events; returns the last number."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.audit_writer", url, name, str(number)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    last = number - 1
    while last < number + kill_after - 1:
        last = int(await process.stdout.readline())
    process.kill()
    rest, _ = await process.communicate()
    return max([last, *map(int, rest.split())])


async def writer(url: str, name: str, total: int) -> tuple[int, int]:
    """Writes at least `total` events; returns how many were acknowledged, and the kills."""
    acknowledged = kills = 0
    next_number = 1
    while acknowledged < total:
        some = min(random.randint(total // 5, total // 2), total - acknowledged)
        last = await write_until_killed(url, name, next_number, some)
        acknowledged += last - next_number + 1
        # An event that was not acknowledged may be there all the same.
        next_number, kills = last + 2, kills + 1
    return acknowledged, kills


@pytest.mark.parametrize(
    "count",
    [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
async def test_killed_writers_leave_a_chain_in_which_every_forgery_is_found(
    patient_database, storage, count
):
    start_s = time.perf_counter()
    results = await asyncio.gather(
        *(writer(patient_database, f"w{n}", count // WRITERS) for n in range(WRITERS))
    )
    writing_s = time.perf_counter() - start_s
    acknowledged, kills = (sum(column) for column in zip(*results, strict=True))
    await statements_of(storage, KEY).make()
    start_s = time.perf_counter()
    report = await verify_audit(storage, KEY.public_key)
    verifying_s = time.perf_counter() - start_s
    print(
        f"{report.events} events of {WRITERS} writers, {kills} kills: {writing_s:.1f} s; "
        f"verified in {verifying_s:.2f} s"
    )
    assert report.findings == []
    assert verifying_s * LONG / report.events <= VERIFIED_WITHIN_S
    # Each kill leaves at most one event that was committed and not acknowledged.
    assert acknowledged <= report.events <= acknowledged + kills
    async with connected() as connection:
        unique = await connection.fetchval("SELECT count(DISTINCT resource) FROM audit_events")
    await for_each_table(patient_database, "CREATE TABLE kept_{table} AS TABLE {table}")
    head = await audit.find_head("t1")
    assert head is not None
    assert unique == report.events == head.seq
    try:
        assert await undetected(patient_database, storage, head.seq) == []
    finally:
        await for_each_table(patient_database, "DROP TABLE kept_{table}")


async def for_each_table(url: str, *statements: str) -> None:
    async with forger_of(url) as connection:
        for table in TABLES:
            for statement in statements:
                await connection.execute(statement.format(table=table))


async def undetected(url: str, storage, last: int) -> list[str]:
    """Returns the forgeries that `verify` does not name."""
    passed = []
    for forge, expected in FORGERIES.items():
        async with forger_of(url) as connection:
            await forge(connection, last)
        report = await verify_audit(storage, KEY.public_key)
        found = [str(finding) for finding in report.findings]
        if not all(any(line.startswith(f"t1: {e}") for line in found) for e in expected(last)):
            passed.append(forge.__name__)
        put_back = "INSERT INTO {table} SELECT * FROM kept_{table}"
        await for_each_table(url, "DELETE FROM {table}", put_back)
    assert (await verify_audit(storage, KEY.public_key)).findings == []
    return passed
