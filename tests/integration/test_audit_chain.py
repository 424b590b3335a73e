"""The chain of the audit: numbered without gaps, hashed, verified; forgeries are found."""

import asyncio
import json
from datetime import timedelta

import asyncpg
import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.db import audit
from image_categorizer_server.db.database import connected, transaction
from image_categorizer_server.domain.audit import (
    FIRST_PREV_HASH,
    Actor,
    AuditAction,
    AuditEvent,
    AuditOutcome,
    EventFilter,
    time_of,
)
from image_categorizer_server.services.audit_verification import verify_audit

from tests.support.audit_forgeries import FORGERIES, restore_older
from tests.support.audit_tools import (
    CLIENT,
    START,
    new_event,
    statements_of,
    write_chain,
)
from tests.support.database import connect_in_scope

KEY = SigningKey.generate()


async def all_events(tenant="t1"):
    return [event async for event in audit.chain(tenant, 0)]


async def findings(storage, key=KEY, **options):
    report = await verify_audit(storage, key.public_key if key else None, **options)
    return [str(finding) for finding in report.findings]


async def test_events_are_numbered_and_hashed_as_the_documentation_says(database):
    await write_chain(3)
    await write_chain(1, "t2")
    events = await all_events()
    assert [event.seq for event in events] == [1, 2, 3]
    assert [event.prev_hash for event in events] == [
        FIRST_PREV_HASH,
        events[0].hash,
        events[1].hash,
    ]
    assert events[0].time == START + timedelta(seconds=1)
    assert (events[0].actor_id, events[0].request_id, events[0].address) == (
        CLIENT.actor_id,
        CLIENT.request_id,
        CLIENT.address,
    )
    assert [event.computed_hash() for event in events] == [event.hash for event in events]
    assert [event.seq for event in await all_events("t2")] == [1]
    # From a line of an export, as anybody can.
    fields = json.loads(events[1].line())
    assert fields.pop("hash") == events[1].hash
    again = AuditEvent(**fields | {"time": time_of(fields["time"])}, hash="")
    assert again.computed_hash() == events[1].hash


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"reason": ""},
        {"reason": '"\\/\b\f\n\r\t\x00'.replace("\x00", "\x1f") + "\x7f é 漢 😀 \u2028"},
        {"count": 0, "reason": "b", "method": "a"},
        {"count": 2**53 - 1},
        {"count": -1, "reason": None},
        {"reason": ["b", "a", 1, True, None]},
        {"count": False},
    ],
)
async def test_database_and_program_agree_on_the_canonical_form(database, detail):
    await audit.append([new_event(action=AuditAction.ACCESS_DENIED, detail=detail)])
    (event,) = await all_events()
    assert event.detail == detail
    assert event.computed_hash() == event.hash


@pytest.mark.parametrize("detail", [{"colour": "red"}, {"count": 1.5}, {"count": {"a": 1}}])
async def test_details_that_are_not_declared_are_a_bug(database, detail):
    with pytest.raises(ValueError, match="detail"):
        await audit.append([new_event(action=AuditAction.ACCESS_DENIED, detail=detail)])


async def test_an_event_outside_a_transaction_of_ours_is_a_bug(database):
    async with connected() as connection:
        with pytest.raises(RuntimeError, match="transaction"):
            await audit.record_event(connection, "t1", AuditAction.BATCH_CANCEL, "b-1", START)


async def test_events_are_written_last_and_not_at_all_if_the_transaction_fails(database):
    async def fail():
        async with transaction() as connection:
            await audit.record_event(connection, "t1", AuditAction.BATCH_CANCEL, "b-1", START)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with transaction() as connection:
        await audit.record_event(connection, "t1", AuditAction.BATCH_CANCEL, "b-1", START)
        assert await connection.fetchval("SELECT count(*) FROM audit_events") == 0
        assert await connection.fetchval("SELECT count(*) FROM audit_heads") == 0
    assert len(await all_events()) == 1


async def test_writers_of_two_chains_in_opposite_order_do_not_wait_in_a_circle(database):
    async def write(first, second):
        for _ in range(20):
            await audit.append([new_event(0, first), new_event(0, second)])

    async with asyncio.timeout(20):
        await asyncio.gather(*(write(*pair) for pair in (("t1", "t2"), ("t2", "t1")) * 3))
    assert len(await all_events("t1")) == len(await all_events("t2")) == 120


async def test_an_untouched_chain_passes(database, storage):
    await write_chain(20)
    await statements_of(storage, KEY).make()
    await write_chain(20, first=21)
    report = await verify_audit(storage, KEY.public_key)
    assert (report.chains, report.events, report.statements) == (1, 40, 1)
    assert (report.findings, report.unsigned_statements) == ([], 0)
    assert await findings(storage, first_seq=11) == []


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
async def test_a_forgery_is_found_and_named(database, storage, forge, as_forger):
    await write_chain(20)
    await statements_of(storage, KEY).make()
    assert await findings(storage) == []
    async with as_forger() as connection:
        await forge(connection, 20)
    found = await findings(storage)
    for text in FORGERIES[forge](20):
        assert any(line.startswith(f"t1: {text}") for line in found), (text, found)


async def test_a_tail_cut_before_its_statement_is_found_by_the_head(database, storage, as_forger):
    await write_chain(20)
    async with as_forger() as connection:
        await connection.execute("DELETE FROM audit_events WHERE seq > 15")
    assert await findings(storage) == ["t1: events 16 to 20 are missing at the end."]


async def test_a_restored_database_that_goes_on_is_found_for_ever(database, storage, as_forger):
    statements = statements_of(storage, KEY)
    await write_chain(20)
    await statements.make()
    async with as_forger() as connection:
        await restore_older(connection, 20)
    await write_chain(30, first=100)
    await statements.make()
    await write_chain(1)
    found = await findings(storage)
    assert len(found) == 1
    assert "event 20 is not the one" in found[0]
    assert "restored" in found[0]


async def test_time_that_goes_back_is_found(database, storage):
    await audit.append([new_event(1000), new_event(401), new_event(400), new_event(1001)])
    await audit.append([new_event(1000, time=START + timedelta(seconds=400))])
    (found,) = await findings(storage)
    assert "event 5 goes back in time" in found


async def test_only_one_chain_is_verified_on_request(database, storage, as_forger):
    await write_chain(5, "t1")
    await write_chain(5, "t2")
    async with as_forger() as connection:
        await connection.execute("UPDATE audit_events SET actor_id = 'x' WHERE seq = 3")
    assert len(await findings(storage)) == 2
    assert await findings(storage, tenant_id="t2") == [
        "t2: event 3 was changed after it was written."
    ]


async def test_events_are_found_by_every_filter(database):
    await write_chain(3)
    await audit.append(
        [
            new_event(
                4,
                action=AuditAction.ACCESS_DENIED,
                resource="",
                actor=Actor("k-2", "r-2", "192.0.2.2"),
                outcome=AuditOutcome.DENIED,
                detail={},
            )
        ]
    )

    async def numbers(before=None, limit=10, **wanted):
        found = await audit.list_events("t1", EventFilter(**wanted), before, limit)
        return [event.seq for event in found]

    assert await numbers() == [4, 3, 2, 1]
    assert await numbers(before=3) == [2, 1]
    assert await numbers(limit=2) == [4, 3]
    assert await numbers(start_time=START + timedelta(seconds=2)) == [4, 3, 2]
    assert await numbers(end_time=START + timedelta(seconds=2)) == [1]
    assert await numbers(actor_id="k-2") == [4]
    assert await numbers(action="batch.") == [3, 2, 1]
    assert await numbers(action="batch.create") == [3, 2, 1]
    assert await numbers(action="batch") == []
    assert await numbers(resource="b-2") == [2]
    assert await numbers(outcome="DENIED") == [4]
    assert await numbers(address="192.0.2.2") == [4]
    assert await audit.list_events("t2", EventFilter(), None, 10) == []


@pytest.fixture
async def as_application(emptied):
    """A connection with the rights of the application only."""
    connection = await connect_in_scope(emptied)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET action = 'x'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "INSERT INTO audit_events SELECT * FROM audit_events",
        "UPDATE audit_heads SET seq = 0",
        "DELETE FROM audit_heads",
        "TRUNCATE audit_heads",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "DROP TABLE audit_events",
    ],
)
async def test_the_application_s_role_may_only_add_and_read(as_application, statement):
    await write_chain(2)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await as_application.execute(statement)
    event = json.dumps([audit._fields(new_event(3, time=clock.now()))])
    await as_application.execute(audit.APPEND, event)
    assert await as_application.fetchval("SELECT count(*) FROM audit_events") == 3
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="30 days"):
        await as_application.execute("SELECT remove_audit_events('t1', 3, 10)")


async def test_the_application_s_role_cannot_make_up_numbers_and_hashes(as_application):
    forged = audit._fields(new_event(1)) | {"seq": 9, "prev_hash": "x", "hash": "x"}
    await as_application.execute(audit.APPEND, json.dumps([forged]))
    (event,) = await all_events()
    assert (event.seq, event.prev_hash) == (1, FIRST_PREV_HASH)
    assert event.hash == event.computed_hash()
