"""Sessions in the database, and what works while nobody can sign in."""

import json
from datetime import timedelta

import grpc
import pytest
from image_categorizer import AsyncImageCategorizationClient
from image_categorizer.v1 import admin_pb2_grpc, caller_pb2, sign_in_pb2
from image_categorizer_server import clock
from image_categorizer_server.access.session import new_secret, sha256_of
from image_categorizer_server.db.session import (
    end_session,
    find_session,
    insert_session,
    touch_session,
)
from image_categorizer_server.domain.access import Principal, Role, Scope, Session
from image_categorizer_server.errors import OperatorError

from tests.integration.conftest import running_server
from tests.integration.test_tokens import Issuer, settings_of
from tests.support.database import connect_in_scope
from tests.support.hosts import PRIVATE

ADA = Principal("main:ada", "acme", Role.OPERATOR, frozenset({Scope.CLASSIFY, Scope.MODELS_READ}))
SIGN_IN = {"issuer": "main", "client_id": "photos", "public_url": "http://localhost:8080"}


@pytest.fixture
async def provider():
    issuer = Issuer()
    async with issuer.host.running(PRIVATE):
        yield issuer


@pytest.fixture
def with_sign_in(settings, provider):
    given = {"token": settings_of(provider.url), "sign_in": SIGN_IN}
    return type(settings)(**{**dict(settings), **given})


async def test_a_session_is_stored_without_its_secret_and_audited(emptied):
    secret, now = new_secret(), clock.now()
    end = now + timedelta(hours=1)
    await insert_session(sha256_of(secret), ADA, now, end)
    assert await find_session(sha256_of(secret)) == Session(ADA, now, end, None)
    assert await find_session(sha256_of(new_secret())) is None
    later = now + timedelta(minutes=5)
    await touch_session(sha256_of(secret), later)
    for _ in range(2):
        await end_session(sha256_of(secret), later)
    assert await find_session(sha256_of(secret)) == Session(ADA, later, end, later)
    connection = await connect_in_scope(emptied)
    rows = [*await connection.fetch("SELECT * FROM sessions")]
    events = await connection.fetch("SELECT * FROM audit_events ORDER BY seq")
    await connection.close()
    assert secret not in str(rows) + str(events)
    assert [(event["tenant_id"], event["action"], event["resource"]) for event in events] == [
        ("acme", "session.create", "main:ada"),
        ("acme", "session.end", "main:ada"),
    ]
    assert json.loads(events[0]["detail"]) == {"role": "operator"}


async def test_sessions_that_are_over_are_removed_when_the_person_signs_in_again(emptied):
    now = clock.now()
    for age_h in (30, 20, 0):
        start = now - timedelta(hours=age_h)
        await insert_session(sha256_of(new_secret()), ADA, start, start + timedelta(hours=12))
    connection = await connect_in_scope(emptied)
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 1
    await connection.close()


async def test_while_the_provider_is_down_keys_and_sessions_work(with_sign_in, provider):
    provider.published.stop()
    async with (
        running_server(with_sign_in, load=False) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StartSignIn(sign_in_pb2.StartSignInRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        key = await server.key(Role.ADMIN, "acme")
        async with AsyncImageCategorizationClient(key, server.address) as client:
            assert (await client.caller()).role == "admin"
        secret, now = new_secret(), clock.now()
        await insert_session(sha256_of(secret), ADA, now, now + timedelta(hours=1))
        headers = (("x-cookies", f"ic_session={secret}"), ("sec-fetch-site", "same-origin"))
        caller = await stub.GetCaller(caller_pb2.GetCallerRequest(), metadata=headers)
        assert (caller.actor_id, caller.tenant_id, caller.role) == ("main:ada", "acme", "operator")


async def test_without_a_setting_nobody_signs_in_and_no_cookie_counts(settings):
    async with (
        running_server(settings, load=False) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StartSignIn(sign_in_pb2.StartSignInRequest())
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        secret, now = new_secret(), clock.now()
        await insert_session(sha256_of(secret), ADA, now, now + timedelta(hours=1))
        headers = (("x-cookies", f"ic_session={secret}"), ("sec-fetch-site", "same-origin"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCaller(caller_pb2.GetCallerRequest(), metadata=headers)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_issuer_that_is_not_configured_stops_the_start(with_sign_in):
    sign_in = with_sign_in.sign_in.model_copy(update={"issuer": "other"})
    with pytest.raises(OperatorError, match="'other' is not the name of an issuer"):
        async with running_server(with_sign_in.model_copy(update={"sign_in": sign_in}), load=False):
            pass
