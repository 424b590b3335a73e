"""Refused calls in the audit: one by one, and counted in a flood."""

import asyncio

import grpc
import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    CredentialsInvalid,
    RoleInsufficient,
)
from image_categorizer.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    metadata_pb2,
    metadata_pb2_grpc,
)
from image_categorizer_server.db import audit
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.domain.audit import PLATFORM_CHAIN, Actor
from image_categorizer_server.errors import (
    CredentialsMissing,
    DependencyDown,
    Draining,
    QuotaExceeded,
)
from image_categorizer_server.services import refusal
from image_categorizer_server.services.refusal import Refusals
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.settings.privacy import PrivacySettings

from tests.integration.conftest import running_server
from tests.support.polling import eventually

CALLER = Principal("k-1", "t1", Role.VIEWER)


class Written:
    """Takes what is written, unless the database is away."""

    def __init__(self):
        self.events = []
        self.away = asyncio.Event()

    async def __call__(self, events):
        if self.away.is_set():
            raise DependencyDown("away")
        self.events += events


@pytest.fixture
def written():
    return Written()


def refusals_of(written, **settings):
    return Refusals(written, AuditSettings(**{"max_refusals_per_minute": 3} | settings))


async def test_few_refusals_are_recorded_one_by_one(written):
    refusals = refusals_of(written)
    refusals.add(CredentialsMissing("x"), "ListModels", None, Actor("", "r-1", "192.0.2.1"))
    refusals.add(QuotaExceeded("x"), "CreateWebhook", CALLER, Actor("", "r-2", "192.0.2.2"))
    refusals.add(Draining("x"), "Classify", CALLER, Actor())
    await refusals.close()
    first, second = written.events
    assert (first.tenant_id, first.actor) == (PLATFORM_CHAIN, Actor("", "r-1", "192.0.2.1"))
    assert first.action.value == "access.unauthenticated"
    assert first.detail == {"method": "ListModels", "reason": "CREDENTIALS_MISSING", "count": 1}
    assert (second.tenant_id, second.actor) == ("t1", Actor("k-1", "r-2", "192.0.2.2"))
    assert (second.action.value, second.outcome.value) == ("access.limited", "DENIED")


async def test_a_flood_is_counted(written):
    refusals = refusals_of(written)
    for number in range(1000):
        actor = Actor("", f"r-{number}", f"192.0.2.{number % 2}")
        refusals.add(CredentialsMissing("x"), "ListModels", None, actor)
        refusals.add(QuotaExceeded("x"), "ListModels", CALLER, Actor(address="192.0.2.9"))
    await refusals.close()
    assert [event.detail["count"] for event in written.events] == [1] * 6 + [997, 997]
    unknown, known = written.events[6:]
    # What the calls do not have in common, the event does not say.
    assert unknown.actor == Actor()
    assert known.actor == Actor("k-1", "", "192.0.2.9")


async def test_a_new_minute_counts_anew(written, monkeypatch):
    monkeypatch.setattr(refusal, "WINDOW_S", 0.0)
    refusals = refusals_of(written, max_refusals_per_minute=1)
    for _ in range(5):
        refusals.add(CredentialsMissing("x"), "ListModels", None, Actor())
    await refusals.close()
    assert [event.detail["count"] for event in written.events] == [1] * 5


async def test_memory_is_bounded_while_the_database_is_away(written, monkeypatch):
    monkeypatch.setattr(refusal, "MAX_WAITING", 10)
    monkeypatch.setattr(refusal, "MAX_KINDS", 4)
    written.away.set()
    refusals = refusals_of(written)
    for number in range(100):
        caller = Principal("k-1", f"t{number}", Role.VIEWER)
        refusals.add(QuotaExceeded("x"), "ListModels", caller, Actor())
    assert len(refusals._waiting) <= 10
    assert len(refusals._windows) <= 5
    await refusals.close()
    assert written.events == []
    written.away.clear()
    await refusals.close()
    assert sum(event.detail["count"] for event in written.events) == 100


async def test_who_writes_at_once_or_is_cut_off_writes_once(written):
    refusals = refusals_of(written)
    refusals.add(CredentialsMissing("x"), "ListModels", None, Actor())
    first = asyncio.ensure_future(refusals.close())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, refusals.close(), refusals.close(), return_exceptions=True)
    assert len(written.events) == 1


async def test_every_refused_call_has_exactly_one_event(settings):
    quick = settings.model_copy(update={"audit": AuditSettings(refusal_interval_s=0.05)})
    async with running_server(quick) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = metadata_pb2_grpc.MetadataServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ListModels(metadata_pb2.ListModelsRequest())
        async with AsyncImageCategorizationClient("ic_none", server.address) as client:
            with pytest.raises(CredentialsInvalid):
                [event async for event in client.audit.export()]
        async with await server.client(Role.VIEWER) as client:
            with pytest.raises(RoleInsufficient):
                await client.classify_image(b"x")
            with pytest.raises(RoleInsufficient):
                async for _ in client.audit.list():
                    pass
        async with await server.client(Role.ADMIN) as client:
            with pytest.raises(RoleInsufficient):
                async for _ in client.audit.list(platform=True):
                    pass

        async def recorded():
            unknown = [event async for event in audit.chain(PLATFORM_CHAIN, 0)]
            chain = [event async for event in audit.chain("default", 0)]
            known = [event for event in chain if event.outcome == "DENIED"]
            return (unknown, known) if len(unknown) >= 2 and len(known) >= 3 else None

        # A server that stops gives up after two seconds, so on a busy machine this one goes on.
        await eventually(recorded, 30)
        await server.backend.refusals.close()  # so that a second event of a call would be here
        unknown, known = await recorded()
    assert [(event.action, event.detail) for event in unknown] == [
        (
            "access.unauthenticated",
            {"method": "ListModels", "reason": "CREDENTIALS_MISSING", "count": 1},
        ),
        (
            "access.unauthenticated",
            {"method": "ExportAuditEvents", "reason": "CREDENTIALS_INVALID", "count": 1},
        ),
    ]
    refused = [(event.action, event.detail["method"], event.outcome) for event in known]
    assert refused == [
        ("access.denied", "Classify", "DENIED"),
        ("access.denied", "ListAuditEvents", "DENIED"),
        ("access.denied", "ListAuditEvents", "DENIED"),
    ]
    assert all(event.actor_id and event.request_id for event in known)


async def test_the_audit_has_only_networks_of_clients_if_the_settings_say_so(settings, caplog):
    changes = {"privacy": PrivacySettings(truncate_addresses=True), "log_level": "debug"}
    async with (
        running_server(settings.model_copy(update=changes)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        key = await server.key(Role.VIEWER)
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        for address, header in (("192.0.2.77", key), ("2001:db8:1:2::9", "ic_none")):
            headers = (("authorization", f"Bearer {header}"), ("x-client-address", address))
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ListWebhooks(admin_pb2.ListWebhooksRequest(), metadata=headers)
        await server.backend.refusals.close()
        chains = [
            [event.address async for event in audit.chain(tenant_id, 0) if event.address]
            for tenant_id in ("default", PLATFORM_CHAIN)
        ]
    assert chains == [["192.0.2.0"], ["2001:db8:1::"]]
    assert "192.0.2.77" not in caplog.text
    assert "2001:db8:1:2::9" not in caplog.text
