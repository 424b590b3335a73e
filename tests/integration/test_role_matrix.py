"""Each RPC against each kind of caller, over gRPC: what the protos say is what happens."""

import base64
from collections import Counter

import grpc
import pytest
from google.protobuf import message_factory
from google.rpc import error_details_pb2, status_pb2
from image_categorizer_server import clock
from image_categorizer_server.access.api_key import new_key
from image_categorizer_server.db.webhook import insert_webhook
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.key import KeySpec
from image_categorizer_server.domain.webhook import Webhook, WebhookState
from image_categorizer_server.services.key import ApiKeys, operator
from image_categorizer_server.settings.access import SecuritySettings

from tests.support.database import ensure_tenants
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.rpcs import CALLERS, METHODS, refusal, rest, variables

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("every_tenant")]
CALL_S = 30


async def credentials():
    """Returns the header of each caller, by name; None for no header."""
    keys = ApiKeys(SecuritySettings())
    headers = {
        "none": None,
        "malformed": "Bearer ic_12345",
        "basic": "Basic " + base64.b64encode(b"admin:admin").decode(),
        "unknown": f"Bearer {new_key()}",
    }
    await ensure_tenants(*{caller.tenant_id for caller in CALLERS if caller.tenant_id})
    for caller in CALLERS:
        if caller.role is not None:
            spec = KeySpec(caller.name, caller.role, caller.scopes)
            made = await keys.create(operator(caller.tenant_id), spec)
            headers[caller.name] = f"Bearer {made.secret}"
    revoked = await keys.create(operator(), KeySpec("revoked", Role.PLATFORM))
    await keys.revoke(operator(), revoked.key.key_id)
    clock.shift(-10)
    soon = clock.now().replace(microsecond=0)
    clock.shift(-20)
    expired = await keys.create(operator(), KeySpec("expired", Role.PLATFORM, expire_time=soon))
    clock.shift(0)
    return headers | {
        "revoked": f"Bearer {revoked.secret}",
        "expired": f"Bearer {expired.secret}",
    }


async def answer(channel, method, header, fields=None):
    """Returns the status and the reason with which an RPC ends; `OK` if it succeeds."""
    request = message_factory.GetMessageClass(method.input_type)(**(fields or {}))
    ways = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    path = f"/{method.containing_service.full_name}/{method.name}"
    call_of = ways[method.client_streaming, method.server_streaming](
        path,
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    metadata = (("authorization", header),) if header is not None else ()
    given = iter([request]) if method.client_streaming else request
    call = call_of(given, metadata=metadata, timeout=CALL_S)
    try:
        if method.server_streaming:
            async for _ in call:
                break
        else:
            await call
    except grpc.RpcError as error:
        found = error.code().name, reason_of(error)
        # gRPC has cut the call off while our message was on its way; the SDK sees through that.
        is_cut = method.client_streaming and found == ("INTERNAL", "")
        return await answer(channel, method, header, fields) if is_cut else found
    return "OK", ""


def reason_of(error):
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return ""


async def test_every_cell_of_the_matrix_is_as_the_protos_say(server):
    headers = await credentials()
    statuses = {
        "CREDENTIALS_MISSING": "UNAUTHENTICATED",
        "CREDENTIALS_INVALID": "UNAUTHENTICATED",
        "ROLE_INSUFFICIENT": "PERMISSION_DENIED",
    }
    wrong, cells = [], Counter()
    async with grpc.aio.insecure_channel(server.address) as channel:
        for method in METHODS:
            for caller in CALLERS:
                expected = refusal(method, caller)
                status, reason = await answer(channel, method, headers[caller.name])
                cells[expected] += 1
                if expected:
                    is_right = (status, reason) == (statuses[expected], expected)
                else:
                    is_right = status not in statuses.values() and status != "INTERNAL"
                if not is_right:
                    wrong.append((method.full_name, caller.name, expected, status, reason))
    assert wrong == []
    assert cells.total() == len(METHODS) * len(CALLERS)
    print(f"{cells.total()} cells: {dict(cells)}")


async def test_what_belongs_to_another_tenant_looks_like_what_does_not_exist(server):
    headers = await credentials()
    webhook = Webhook("w-own", "https://a.example/", WebhookState.ENABLED, None, clock.now())
    await insert_webhook("default", webhook, "whsec_", 10)
    async with await server.client(Role.ADMIN) as admin:
        existing = {
            "batch_id": (await admin.batches.submit([("a.jpg", jpeg())])).batch_id,
            "key_id": (await anext(admin.keys.list())).key_id,
            "webhook_id": (await admin.webhooks.get("w-own")).webhook_id,
        }
    missing = dict.fromkeys((*existing, "delivery_id"), "x" * 32)
    async with grpc.aio.insecure_channel(server.address) as channel:
        for method in METHODS:
            names = [name for name in variables(method) if name in missing]
            if not names or rest(method) is None:
                continue
            given = {name: existing.get(name, missing[name]) for name in names}
            absent = {name: missing[name] for name in names}
            header = headers["other tenant's admin"]
            found = await answer(channel, method, header, given)
            assert found == await answer(channel, method, header, absent), method.full_name
            assert found[0] == "NOT_FOUND", method.full_name
            assert (await answer(channel, method, headers["none"], given))[0] == "UNAUTHENTICATED"


async def test_a_downgraded_key_loses_its_rights(server):
    keys = ApiKeys(SecuritySettings())
    made = await keys.create(operator(), KeySpec("k", Role.ADMIN))
    (listing,) = [method for method in METHODS if method.name == "ListApiKeys"]
    async with grpc.aio.insecure_channel(server.address) as channel:

        async def status():
            return (await answer(channel, listing, f"Bearer {made.secret}"))[0]

        assert await status() == "OK"
        await keys.update(operator(), made.key.key_id, {"role": Role.VIEWER})

        async def is_refused():
            return await status() == "PERMISSION_DENIED"

        await eventually(is_refused, 5)
