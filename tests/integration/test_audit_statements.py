"""Statements about the audit: signed, linked, stored once; retention removes what they cover."""

import asyncio
import json
from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.signing import PublicKey, SigningKey
from image_categorizer_server.db import audit
from image_categorizer_server.db import audit_statement as rows
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.audit import sha256_of
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.services.audit_statement import (
    folder_of,
    read_all,
    signing_key_of,
)
from image_categorizer_server.services.audit_verification import verify_audit
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.stores.object_store import MemoryStorage
from pydantic import ValidationError

from tests.support.audit_forgeries import rewrite
from tests.support.audit_tools import new_event, statements_of, write_chain

KEY = SigningKey.generate()


class AwayStorage(MemoryStorage):
    """A store that is away until its event is set."""

    def __init__(self):
        super().__init__()
        self.back = asyncio.Event()

    async def create(self, key, content):
        if not self.back.is_set():
            raise DependencyDown("away")
        return await super().create(key, content)


async def stored(storage, tenant="t1"):
    return [(key, json.loads(content)) async for key, content in read_all(storage, tenant)]


async def findings(storage, key=KEY.public_key):
    report = await verify_audit(storage, key)
    return [str(finding) for finding in report.findings]


async def test_each_chain_that_has_grown_is_stated_once(database, storage):
    statements = statements_of(storage, KEY)
    await write_chain(3)
    await write_chain(1, "t2")
    assert await statements.make() == 2
    assert await statements.make() == 0
    await write_chain(2)
    assert await statements.make() == 1
    (first_key, first), (second_key, second) = await stored(storage)
    head = await audit.find_head("t1")
    assert head is not None
    assert (first["statement"]["seq"], second["statement"]["seq"]) == (3, 5)
    assert second["statement"]["hash"] == head.hash
    assert first["statement"]["previous"] == ""
    text = json.dumps(first["statement"], sort_keys=True, separators=(",", ":"))
    assert second["statement"]["previous"] == sha256_of(text)
    assert KEY.public_key.has_signed(text, first["signature"])
    assert first["key_id"] == KEY.public_key.key_id
    assert first_key.startswith(f"{folder_of('t1')}/20")
    assert first_key < second_key
    assert await findings(storage) == []


async def test_of_two_processes_one_makes_statements(database, storage):
    await write_chain(1)
    async with rows.sole_process() as is_sole:
        assert is_sole
        assert await statements_of(storage, KEY).make() == 0
    made = await asyncio.gather(*(statements_of(storage, KEY).make() for _ in range(4)))
    assert sum(made) == 1


async def test_what_a_store_that_was_away_lacks_is_stored_before_anything_else(database):
    storage = AwayStorage()
    statements = statements_of(storage, KEY)
    await write_chain(1)
    for _ in range(2):
        with pytest.raises(DependencyDown):
            await statements.make()
    await write_chain(1)
    storage.back.set()
    await statements.make()
    assert [entry["statement"]["seq"] for _, entry in await stored(storage)] == [1, 2]
    assert await findings(storage) == []


async def test_a_statement_is_never_overwritten(database, storage):
    statements = statements_of(storage, KEY)
    await write_chain(1)
    await statements.make()
    ((key, _),) = await stored(storage)
    assert not await storage.create(key, b"other")
    # The database says that it may not be stored: it is, and stays.
    async with connected() as connection:
        await connection.execute("UPDATE audit_statements SET is_stored = false")
    await write_chain(1)
    await statements.make()
    assert len(await stored(storage)) == 2
    assert await findings(storage) == []


async def test_forged_statements_are_found(database, storage):
    statements = statements_of(storage, KEY)
    for _ in range(4):
        await write_chain(2)
        await statements.make()
    (_, (second, entry), (third, _), _) = await stored(storage)
    entry["statement"]["hash"] = "0" * 64
    await storage.put(second, json.dumps(entry).encode())
    assert any("does not have the signature" in text for text in await findings(storage))
    await storage.delete([second])
    (found,) = await findings(storage)
    assert f"the statement {third.rpartition('/')[2]} does not follow" in found
    await storage.put(second, b"{}")
    assert any("cannot be read" in text for text in await findings(storage))
    await storage.put(second, json.dumps({"statement": [], "signature": ""}).encode())
    assert any("cannot be read" in text for text in await findings(storage))


async def test_statements_of_another_key_or_without_one_are_found(database, storage):
    await write_chain(2)
    await statements_of(storage, SigningKey.generate()).make()
    await write_chain(2)
    await statements_of(storage, None).make()
    first, second = await findings(storage)
    assert "does not have the signature" in first
    assert "is not signed" in second
    report = await verify_audit(storage, None)
    assert (report.findings, report.unsigned_statements) == ([], 2)


async def test_a_rewritten_chain_is_found_by_a_statement_without_a_signature(
    database, storage, as_forger
):
    await write_chain(5)
    await statements_of(storage, None).make()
    async with as_forger() as connection:
        await connection.execute("UPDATE audit_events SET resource = 'x' WHERE seq = 2")
        await rewrite(connection)
    assert "was rewritten" in (await findings(storage, None))[0]


async def test_old_events_are_removed_and_the_rest_still_verifies(database, storage, as_forger):
    now = clock.now()
    for days in (90, 80, 70, 40, 1):
        await audit.append([new_event(time=now - timedelta(days=days))])
    await audit.append([new_event(0, "t2", time=now - timedelta(days=90))])
    statements = statements_of(storage, KEY, keep_days=60)
    await statements.make()
    assert await statements.remove_old() == 3
    assert await statements.remove_old() == 0
    events = [event async for event in audit.chain("t1", 0)]
    assert [event.seq for event in events] == [4, 5, 6]
    assert (events[-1].action, events[-1].detail) == ("audit.removed", {"last_seq": 3})
    # The last event of a chain stays.
    assert [event.seq async for event in audit.chain("t2", 0)] == [1]
    assert await findings(storage) == []
    await statements.make()
    assert await findings(storage) == []
    async with as_forger() as connection:
        await connection.execute("DELETE FROM audit_events WHERE seq = 4")
    assert await findings(storage) == ["t1: event 4 is missing at the beginning."]


async def test_a_beginning_that_no_statement_says_is_removed_is_missing(
    database, storage, as_forger
):
    await write_chain(5)
    await statements_of(storage, KEY).make()
    async with as_forger() as connection:
        await connection.execute("UPDATE audit_heads SET removed_seq = 3, removed_hash = 'x'")
        await connection.execute("DELETE FROM audit_events WHERE seq <= 3")
    assert await findings(storage) == ["t1: events 1 to 3 are missing at the beginning."]


@pytest.mark.parametrize(("key", "keep_days"), [(None, 30), (KEY, 0)])
async def test_without_a_key_or_a_limit_nothing_is_removed(database, storage, key, keep_days):
    for days in (90, 80):
        await audit.append([new_event(time=clock.now() - timedelta(days=days))])
    assert await statements_of(storage, key, keep_days=keep_days).remove_old() == 0


async def test_old_statements_are_removed_except_the_last(database, storage):
    statements = statements_of(storage, KEY, keep_statements_days=30)
    for days in (90, 60, 1):
        clock.shift(-days * 86_400)
        await write_chain(1)
        await statements.make()
    clock.shift(0)
    await statements.remove_old()
    assert [entry["statement"]["seq"] for _, entry in await stored(storage)] == [3]
    clock.shift(90 * 86_400)
    await statements.remove_old()
    assert len(await stored(storage)) == 1
    assert await findings(storage) == []


def test_keys_are_read_from_the_settings(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text(KEY.pem())
    for settings in (
        AuditSettings(signing_key=KEY.pem()),
        AuditSettings(signing_key_file=str(file)),
    ):
        key = signing_key_of(settings)
        assert key is not None
        assert key.public_key.pem() == KEY.public_key.pem()
    assert KEY.pem() not in repr(AuditSettings(signing_key=KEY.pem()))
    assert signing_key_of(AuditSettings()) is None
    assert PublicKey.from_pem(KEY.pem()).key_id == KEY.public_key.key_id
    with pytest.raises(OperatorError, match="new-key"):
        signing_key_of(AuditSettings(signing_key="nonsense"))
    with pytest.raises(OperatorError, match="new-key"):
        signing_key_of(AuditSettings(signing_key=KEY.public_key.pem()))
    with pytest.raises(OperatorError, match="Cannot read"):
        signing_key_of(AuditSettings(signing_key_file=str(tmp_path / "none")))
    with pytest.raises(ValidationError):
        AuditSettings(keep_days=29)
