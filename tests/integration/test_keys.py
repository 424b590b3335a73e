"""API keys by RPC: what they may, who may change them, and when changes take effect."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from image_categorizer import (
    AsyncImageCategorizationClient,
    CredentialsInvalid,
    FailedPrecondition,
    KeyNotFound,
    QuotaExceeded,
    RoleInsufficient,
)
from image_categorizer.v1 import admin_pb2_grpc, key_pb2
from image_categorizer_server import clock
from image_categorizer_server.access.api_key import sha256_of
from image_categorizer_server.db import key as rows
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.key import KeySpec
from image_categorizer_server.services.key import ApiKeys, operator
from image_categorizer_server.settings.access import SecuritySettings

from tests.integration.conftest import running_server
from tests.support.database import ensure_tenants
from tests.support.keys import make_key
from tests.support.polling import eventually, stays

DAY = timedelta(days=1)
EVENTS = "SELECT action, actor_id, detail::text FROM audit_events WHERE resource = $1"


pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
async def admin(server):
    async with await server.client(Role.ADMIN) as client:
        yield client


def client_with(server, secret):
    return AsyncImageCategorizationClient(secret, server.address)


async def works(server, secret):
    async with client_with(server, secret) as client:
        try:
            await client.server_info()
        except CredentialsInvalid:
            return False
    return True


async def becomes(server, expected):
    """Waits until each of some secrets works or does not, as expected."""

    async def is_so():
        return [await works(server, secret) for secret in expected] == list(expected.values())

    await eventually(is_so, 5)


async def listed(client, **filters):
    return [key async for key in client.keys.list(**filters)]


async def test_a_key_is_created_shown_once_listed_changed_and_revoked(server, admin):
    end = datetime.now(UTC) + DAY
    made = await admin.keys.create(
        "dashboard",
        "viewer",
        scopes=["models:read", "batches:read"],
        allowed_addresses=["127.0.0.1", "192.0.2.0/24"],
        expire_time=end,
    )
    assert made.secret.startswith(made.prefix)
    assert (made.name, made.role, made.state) == ("dashboard", "viewer", "ACTIVE")
    assert made.scopes == ("batches:read", "models:read")
    assert made.allowed_addresses == ("127.0.0.1/32", "192.0.2.0/24")
    assert made.expire_time == end
    assert (made.revoke_time, made.last_use_time, made.previous_secret_expire_time) == (None,) * 3
    (own,) = [key for key in await listed(admin) if key.role == "admin"]
    assert (made.created_by, own.created_by) == (own.key_id, "")
    shown = await admin.keys.get(made.key_id)
    assert shown.secret == ""
    assert [key for key in await listed(admin) if key.key_id == made.key_id] == [shown]
    assert await works(server, made.secret)
    changed = await admin.keys.update(made.key_id, name="wall", scopes=[], expire_time=None)
    assert (changed.name, changed.scopes, changed.expire_time) == ("wall", (), None)
    assert changed.allowed_addresses == made.allowed_addresses
    revoked = await admin.keys.revoke(made.key_id)
    assert revoked.state == "REVOKED"
    await becomes(server, {made.secret: False})
    assert await admin.keys.revoke(made.key_id) == revoked
    assert await listed(admin, state="REVOKED") == [revoked]
    assert [key.key_id for key in await listed(admin, state="ACTIVE")] == [own.key_id]
    with pytest.raises(FailedPrecondition, match="revoked"):
        await admin.keys.update(made.key_id, name="again")
    with pytest.raises(FailedPrecondition, match="revoked"):
        await admin.keys.rotate(made.key_id)


async def test_a_rotation_overlaps_and_a_second_one_ends_the_oldest_secret(server, admin):
    first = await admin.keys.create("camera", "viewer")
    second = await admin.keys.rotate(first.key_id)
    assert second.key_id == first.key_id
    in_a_day = datetime.now(UTC) + DAY
    assert abs(second.previous_secret_expire_time - in_a_day) < timedelta(minutes=1)
    await becomes(server, {first.secret: True, second.secret: True})
    third = await admin.keys.rotate(first.key_id, overlap=timedelta(hours=1))
    await becomes(server, {first.secret: False, second.secret: True, third.secret: True})
    clock.shift(3601)
    assert [await works(server, key.secret) for key in (second, third)] == [False, True]
    assert (await admin.keys.get(first.key_id)).previous_secret_expire_time is None
    fourth = await admin.keys.rotate(first.key_id, overlap=timedelta(0))
    assert fourth.previous_secret_expire_time is None
    await becomes(server, {third.secret: False, fourth.secret: True})
    assert fourth.prefix == fourth.secret[:8]


async def test_a_revoked_key_ends_both_of_its_secrets(server, admin):
    first = await admin.keys.create("camera", "viewer")
    second = await admin.keys.rotate(first.key_id)
    await admin.keys.revoke(first.key_id)
    await becomes(server, {first.secret: False, second.secret: False})


async def test_nobody_gets_more_than_they_have(server, admin):
    platform = await make_key("platform", Role.PLATFORM)
    worker = await make_key("worker", Role.WORKER)
    plain = await admin.keys.create("plain", "viewer")
    for role in ("platform", "worker"):
        with pytest.raises(RoleInsufficient, match=f"'{role}'"):
            await admin.keys.create("high", role)
        with pytest.raises(RoleInsufficient):
            await admin.keys.update(plain.key_id, role=role)
    for key in (platform.key, worker.key):
        for refused in (
            admin.keys.update(key.key_id, name="mine"),
            admin.keys.update(key.key_id, role="viewer"),
            admin.keys.rotate(key.key_id),
            admin.keys.revoke(key.key_id),
        ):
            with pytest.raises(RoleInsufficient):
                await refused
    limited = await admin.keys.create("limited", "admin", scopes=["keys:write", "keys:read"])
    async with client_with(server, limited.secret) as client:
        for scopes in ([], ["classify"], ["keys:read", "classify"]):
            with pytest.raises(RoleInsufficient, match="keys:read, keys:write"):
                await client.keys.create("more", "viewer", scopes=scopes)
        for refused in (
            client.keys.rotate(plain.key_id),
            client.keys.update(plain.key_id, role="admin"),
            client.keys.update(limited.key_id, scopes=[]),
            client.keys.update(limited.key_id, scopes=["keys:write", "models:write"]),
        ):
            with pytest.raises(RoleInsufficient):
                await refused
        reader = await client.keys.create("reader", "admin", scopes=["keys:read"])
        assert reader.scopes == ("keys:read",)
        assert (await client.keys.revoke(plain.key_id)).state == "REVOKED"
        assert (await client.keys.update(limited.key_id, role="viewer")).role == "viewer"
        await eventually(lambda: is_refused(client), 5)
    assert (await rows.find_key(sha256_of(worker.secret))).key.role is Role.WORKER


async def is_refused(client):
    try:
        await listed(client)
    except RoleInsufficient:
        return True
    return False


async def test_keys_of_other_tenants_do_not_exist(admin):
    foreign = (await make_key("foreign", Role.VIEWER, "other")).key
    missing = "0" * 32
    for key_id in (foreign.key_id, missing, "no id!"):
        for call in (
            admin.keys.get(key_id),
            admin.keys.update(key_id, name="mine"),
            admin.keys.rotate(key_id),
            admin.keys.revoke(key_id),
        ):
            with pytest.raises(KeyNotFound):
                await call
    assert foreign.key_id not in [key.key_id for key in await listed(admin)]
    assert await rows.get_key("other", foreign.key_id) == foreign


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": ""}, "name"),
        ({"name": "a" * 129}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"role": ""}, "role"),
        ({"role": "ADMIN"}, "role"),
        ({"role": "public"}, "role"),
        ({"scopes": ["read"]}, "scopes"),
        ({"scopes": ["BATCHES_READ"]}, "scopes"),
        ({"allowed_addresses": ["office"]}, "allowed_addresses"),
        ({"allowed_addresses": ["192.0.2.1/24"]}, "allowed_addresses"),
        ({"allowed_addresses": [f"10.0.0.{n}" for n in range(101)]}, "allowed_addresses"),
        ({"expire_time": Timestamp(seconds=1)}, "expire_time"),
        ({"expire_time": Timestamp(seconds=2**62)}, "expire_time"),
    ],
)
async def test_what_is_not_valid_is_named(server, fields, wrong):
    request = key_pb2.CreateApiKeyRequest(**({"name": "n", "role": "viewer"} | fields))
    found = await refused(server, "CreateApiKey", request)
    assert found == "INVALID_ARGUMENT"
    made = await make_key("n", Role.VIEWER)
    update = key_pb2.UpdateApiKeyRequest(key_id=made.key.key_id, **fields)
    assert await refused(server, "UpdateApiKey", update) == "INVALID_ARGUMENT"
    assert await rows.get_key("default", made.key.key_id) == made.key


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("RotateApiKey", {"overlap": Duration(seconds=-1)}),
        ("RotateApiKey", {"overlap": Duration(seconds=2_592_001)}),
        ("RotateApiKey", {"overlap": Duration(seconds=2**62)}),
        ("UpdateApiKey", {"clear": ["name"]}),
        ("UpdateApiKey", {"clear": ["scopes"], "scopes": ["classify"]}),
        ("UpdateApiKey", {"clear": ["expire_time"], "expire_time": Timestamp(seconds=2**33)}),
    ],
)
async def test_changes_that_make_no_sense_are_refused(server, method, request_):
    made = await make_key("n", Role.VIEWER)
    message = getattr(key_pb2, f"{method}Request")(key_id=made.key.key_id, **request_)
    assert await refused(server, method, message) == "INVALID_ARGUMENT"


async def refused(server, method, request):
    """Returns the status of a call that fails."""
    headers = (("authorization", f"Bearer {await server.key(Role.ADMIN)}"),)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            await getattr(stub, method)(request, metadata=headers, timeout=10)
    return error.value.code().name


async def test_a_single_text_is_not_a_list(admin):
    with pytest.raises(TypeError, match="scopes takes a list"):
        await admin.keys.create("n", "viewer", scopes="classify")
    with pytest.raises(TypeError, match="no tenant_id"):
        await admin.keys.update("k", tenant_id="other")
    with pytest.raises(ValueError, match="time zone"):
        await admin.keys.create("n", "viewer", expire_time=datetime(2100, 1, 1))  # noqa: DTZ001


async def test_a_tenant_has_so_many_active_keys(settings):
    few = settings.model_copy(update={"security": SecuritySettings(max_keys=2)})
    async with running_server(few) as server, await server.client(Role.ADMIN) as admin:
        second = await admin.keys.create("second", "viewer")
        with pytest.raises(QuotaExceeded, match="2 active API keys"):
            await admin.keys.create("third", "viewer")
        await admin.keys.revoke(second.key_id)
        await admin.keys.create("third", "viewer", expire_time=datetime.now(UTC) + DAY)
        clock.shift(DAY.total_seconds() + 1)
        await admin.keys.create("fourth", "viewer")


async def test_the_list_has_pages(admin):
    made = [(await make_key(f"k{number}", Role.VIEWER)).key.key_id for number in range(5)]
    keys = ApiKeys(SecuritySettings())
    found, token = [], ""
    while True:
        page = await keys.list_page("default", None, 2, token)
        found += [key.key_id for key in page.items]
        if not (token := page.next_page_token):
            break
    assert [key_id for key_id in found if key_id in made] == made
    assert len(found) == len(set(found)) == 6


async def test_changes_are_in_the_audit_without_what_people_wrote(admin):
    made = await admin.keys.create("very private", "viewer", scopes=["models:read"])
    await admin.keys.update(made.key_id, role="classifier", name="also private")
    await admin.keys.update(made.key_id, role="classifier")
    await admin.keys.rotate(made.key_id)
    await admin.keys.revoke(made.key_id)
    await admin.keys.revoke(made.key_id)
    async with connected() as connection:
        events = await connection.fetch(EVENTS, made.key_id)
    assert sorted(event["action"] for event in events) == [
        "key.create",
        "key.revoke",
        "key.rotate",
        "key.update",
    ]
    assert {event["actor_id"] for event in events} == {made.created_by}
    assert "private" not in str(events)
    assert made.secret not in str(events)


async def test_the_last_use_is_written_at_most_once_a_minute(settings):
    often = settings.model_copy(update={"security": SecuritySettings(key_use_interval_s=0.05)})
    async with running_server(often) as server, await server.client(Role.ADMIN) as admin:
        made = await admin.keys.create("camera", "viewer")

        async def last_use():
            return (await admin.keys.get(made.key_id)).last_use_time

        assert await last_use() is None
        assert await works(server, made.secret)
        await eventually(last_use)
        first = await last_use()
        assert await works(server, made.secret)
        await stays(lambda: same(last_use, first), 0.5)
        clock.shift(61)
        assert await works(server, made.secret)
        await eventually(lambda: later(last_use, first))


async def same(last_use, first):
    return await last_use() == first


async def later(last_use, first):
    return await last_use() > first


def test_a_body_cannot_set_what_the_server_decides():
    settable = {
        request.name: {field.name for field in request.fields}
        for request in (
            key_pb2.CreateApiKeyRequest.DESCRIPTOR,
            key_pb2.UpdateApiKeyRequest.DESCRIPTOR,
            key_pb2.RotateApiKeyRequest.DESCRIPTOR,
        )
    }
    assert settable == {
        "CreateApiKeyRequest": {"name", "role", "scopes", "allowed_addresses", "expire_time"},
        "UpdateApiKeyRequest": {
            *("key_id", "name", "role", "scopes", "allowed_addresses", "expire_time", "clear")
        },
        "RotateApiKeyRequest": {"key_id", "overlap"},
    }


async def test_the_command_line_acts_for_any_tenant_and_role(database):
    await ensure_tenants("other")
    made = await ApiKeys(SecuritySettings()).create(
        operator("other"), KeySpec("p", Role.PLATFORM, frozenset({Scope.TENANTS_READ}))
    )
    assert (made.key.tenant_id, made.key.role, made.key.created_by) == ("other", Role.PLATFORM, "")
