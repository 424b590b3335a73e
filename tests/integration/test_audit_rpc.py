"""The audit by RPC: listed in pages, filtered, exported; orders about models are in it."""

import csv
import io
import json
from datetime import timedelta

import pytest
from image_categorizer import AsyncImageCategorizationClient, InvalidRequest, ModelNotFound
from image_categorizer_server.db import audit
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.audit import PLATFORM_CHAIN

from tests.support.audit_tools import START, new_event, write_chain

COUNT = 250


async def listed(client, **wanted):
    return [event.seq async for event in client.audit.list(**wanted)]


async def exported(client, *arguments, **wanted):
    pieces = [piece async for piece in client.audit.export(*arguments, **wanted)]
    return b"".join(pieces).decode()


async def test_events_are_listed_filtered_and_exported(server):
    await write_chain(COUNT, "default")
    await write_chain(3, "t2")
    async with await server.client(Role.ADMIN) as client:
        assert await listed(client, action="batch.") == list(range(COUNT, 0, -1))
        assert await listed(client, resource="b-7") == [7]
        assert await listed(client, outcome="DENIED") == []
        since = START + timedelta(seconds=COUNT - 1)
        recent = await listed(client, start_time=since, action="batch.")
        assert recent == [COUNT, COUNT - 1]
        earlier = await listed(client, end_time=since, action="batch.")
        assert earlier == list(range(COUNT - 2, 0, -1))
        event = await anext(client.audit.list(resource="b-7"))
        assert event.time == START + timedelta(seconds=7)
        assert (event.tenant_id, event.outcome, event.address) == ("default", "OK", "192.0.2.1")
        assert event.detail["item_count"] == 7
        lines = (await exported(client, resource="b-7")).splitlines()
        stored = await anext(audit.chain("default", 6))
        assert lines == [stored.line()]
        assert event.hash == stored.hash
        rows = list(csv.DictReader(io.StringIO(await exported(client, "csv"))))
        # The caller's key and two exports, of which the second one is its own last line.
        assert [row["seq"] for row in rows] == [str(n) for n in range(1, COUNT + 4)]
        assert rows[-3]["action"] == "key.create"
        assert rows[-1]["action"] == "audit.export"
        assert json.loads(rows[-1]["detail"]) == {"format": "csv"}


async def test_a_tenant_does_not_read_what_an_earlier_one_of_its_name_did(server):
    await write_chain(3, "acme")  # long ago
    async with AsyncImageCategorizationClient(
        await server.key(Role.ADMIN, "acme"), server.address
    ) as client:
        assert await listed(client) == [4]
        assert await listed(client, start_time=START) == [4]
        first, second = (await exported(client)).splitlines()
    assert [json.loads(line)["action"] for line in (first, second)] == [
        "key.create",
        "audit.export",
    ]


async def test_wrong_filters_are_named(server):
    async with await server.client(Role.ADMIN) as client:
        for wanted in ({"address": "x" * 300}, {"action": "\0"}):
            with pytest.raises(InvalidRequest, match=next(iter(wanted))):
                await listed(client, **wanted)
        with pytest.raises(InvalidRequest, match="format"):
            await exported(client, "xlsx")


async def test_the_chain_of_the_platform_is_for_its_role(server):
    await audit.append([new_event(1, PLATFORM_CHAIN), new_event(1, "default")])
    async with await server.client(Role.PLATFORM) as client:
        (event,) = [event async for event in client.audit.list(platform=True)]
        assert event.tenant_id == PLATFORM_CHAIN
        (event,) = [event async for event in client.audit.list(action="batch.")]
        assert event.tenant_id == "default"


async def test_every_order_about_a_model_has_one_event(server):
    async with await server.client(Role.ADMIN) as client:
        await client.models.load("small", 1)
        await client.models.set_alias("small", "stable", 1)
        with pytest.raises(Exception, match="stable"):
            await client.models.unload("small", 1)
        with pytest.raises(ModelNotFound):
            await client.models.load("other\n", 1)
        chain = [event async for event in audit.chain("default", 0)]
    events = [event for event in chain if event.action.startswith("model.")]
    assert [(event.action, event.resource, event.detail) for event in events] == [
        ("model.load", "small", {"version": "1"}),
        ("model.set_alias", "small", {"version": "1", "alias": "stable", "canary_permille": 0}),
        ("model.unload", "small", {"version": "1"}),
    ]
    assert len({event.actor_id for event in events}) == 1
