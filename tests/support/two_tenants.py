"""Two tenants with everything that a tenant can have, and calls that name what the other one has.

A call is made twice, with the name of something that the other tenant has, and with a name that
nobody has.  Both must be answered alike, byte for byte.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from image_categorizer.v1 import batch_pb2
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.domain.tenant import all_tenants, one_tenant
from image_categorizer_server.rpc.services import our_services
from image_categorizer_server.services.key import create_key
from image_categorizer_server.services.upload import NewItem

from tests.integration.conftest import Running
from tests.support.batch_tools import do_all, pieces
from tests.support.pictures import jpeg
from tests.support.tenant_rows import THEIRS

CALL_S = 20.0
MARK = "theirs"
"""A part of every text that the other tenant has, beside its identifiers."""
PICTURE = jpeg(32, 32)
# The same at every call, so that answers can be compared byte for byte.
REQUEST_ID = "request-of-a-test"


def methods() -> list[MethodDescriptor]:
    """Returns the RPCs that take one request with a text in it."""
    return [
        method
        for service in our_services()
        for method in service.methods
        if not method.client_streaming and list(texts_of(method))
    ]


def texts_of(method: MethodDescriptor) -> Iterator[str]:
    """Yields the names of the text fields of an RPC's request."""
    for one in method.input_type.fields:
        if one.type == FieldDescriptor.TYPE_STRING and not one.is_repeated:
            yield one.name


@dataclass
class Belongings:
    """What one tenant has."""

    tenant_id: str
    api_key: str
    batch_ids: list[str]
    webhook_ids: list[str]
    delivery_ids: list[str]
    values: list[str]
    """Everything by which a request may name it."""

    def of(self, name: str, choice: int) -> str:
        """Returns something of this tenant that fits a field."""
        fitting = {
            "batch_id": self.batch_ids,
            "webhook_id": self.webhook_ids,
            "delivery_id": self.delivery_ids,
        }.get(name, [""])
        return fitting[choice % len(fitting)]


@dataclass(frozen=True)
class Answer:
    """What a caller can see of an answer."""

    code: grpc.StatusCode
    text: str
    """The message of a failure, and its headers; of a success, which fields are set."""
    raw: str
    """Everything, to be searched for what nobody may see."""


async def furnish(server: Running, owner: asyncpg.Connection, tenant_id: str) -> Belongings:
    """Gives a tenant batches, results, webhooks, deliveries, keys, and requests to repeat."""
    api_key = await server.key(Role.ADMIN, tenant_id)
    batches = server.backend.batches

    async def items() -> Any:
        yield NewItem(f"{tenant_id}-secret.jpg", pieces(f"{tenant_id}".encode()), None)
        yield NewItem(f"{tenant_id}-bad.jpg", pieces(b""), None)

    made = []
    with one_tenant(tenant_id):
        for number in range(2):
            config = BatchConfig(request_id=f"{tenant_id}-request-{number}")
            made.append((await batches.create(tenant_id, "key", config, items())).batch_id)
            if number == 0:
                with all_tenants():
                    await do_all()
        token = (await batches.list(tenant_id, page_size=1)).next_page_token
    with all_tenants():
        key = (await create_key(f"{tenant_id} camera", Role.VIEWER, tenant_id=tenant_id)).key
    webhook_ids = [f"w-{tenant_id}-{secrets.token_hex(4)}" for _ in range(2)]
    for webhook_id in webhook_ids:
        await owner.execute(WEBHOOK, tenant_id, webhook_id)
    deliveries = await owner.fetch(DELIVERIES, tenant_id, webhook_ids[0], made[0])
    delivery_ids = [str(row["delivery_id"]) for row in deliveries]
    object_key = await owner.fetchval(
        "SELECT object_key FROM batch_items WHERE tenant_id = $1 AND object_key <> ''", tenant_id
    )
    values = [
        *(*made, *webhook_ids, *delivery_ids, key.key_id, tenant_id, token, object_key),
        *(f"{tenant_id}-request-0", f"s3://bucket/{object_key}", f"https://192.0.2.7/{tenant_id}"),
    ]
    return Belongings(tenant_id, api_key, made, webhook_ids, delivery_ids, values)


WEBHOOK = """
INSERT INTO webhooks (tenant_id, webhook_id, url, state, secret, create_time)
SELECT $1::text, $2, 'https://192.0.2.7/' || $1::text, 'ENABLED', 'whsec_' || $1::text, now()
"""
DELIVERIES = """
INSERT INTO webhook_deliveries (delivery_id, tenant_id, webhook_id, target, url, event_type,
    batch_id, body, state, is_under_way, next_attempt_time, lease_token, attempt_count, attempts,
    create_time)
SELECT 'd-' || md5($1::text || n), $1::text, $2::text, $2::text, '', 'batch.completed', $3::text,
    '{}', 'PENDING', false, now() + interval '1 day', 0, 0, '[]', now()
FROM generate_series(1, 2) n
RETURNING delivery_id
"""


def absent_twin(value: str) -> str:
    """Returns a text of the same form and length that names nothing."""
    if value == THEIRS:
        return "nobody"
    head, tail = value[:2], value[2:]
    if value.startswith(("https://", "s3://")):
        return value.replace(THEIRS, "nobody")
    return head + "".join(secrets.choice("abcdef012345") if c.isalnum() else c for c in tail)


async def call(
    channel: grpc.aio.Channel, api_key: str, method: MethodDescriptor, fields: dict[str, str]
) -> Answer:
    """Calls an RPC; of a stream, takes the first message."""
    request_class = GetMessageClass(method.input_type)
    request = request_class(**fields, **_images(method, fields))
    path = f"/{method.containing_service.full_name}/{method.name}"
    serializers = (request_class.SerializeToString, GetMessageClass(method.output_type).FromString)
    headers = (("authorization", f"Bearer {api_key}"), ("x-request-id", REQUEST_ID))
    if method.server_streaming:
        calling: Any = channel.unary_stream(path, *serializers)(
            request, metadata=headers, timeout=CALL_S
        )
        work = calling.read()
    else:
        calling = channel.unary_unary(path, *serializers)(request, metadata=headers, timeout=CALL_S)
        work = calling
    try:
        response = await work
    except grpc.aio.AioRpcError as error:
        text = _masked(f"{error.details()} {error.trailing_metadata()!r}", fields)
        return Answer(error.code(), text, text)
    if method.server_streaming:
        calling.cancel()
    raw = "" if response is grpc.aio.EOF else str(response)
    return Answer(grpc.StatusCode.OK, _shape(response), _masked(raw, fields))


def _images(method: MethodDescriptor, fields: dict[str, str]) -> dict[str, Any]:
    """Returns the images that a request needs."""
    names = {one.name for one in method.input_type.fields}
    if "items" in names:
        return {"items": [batch_pb2.BatchItem(image=PICTURE, filename="a.jpg")]}
    return {"image": PICTURE} if "image" in names and "image_uri" not in fields else {}


def _masked(text: str, fields: dict[str, str]) -> str:
    """Returns a text without what it repeats of the request."""
    for value in sorted(filter(None, fields.values()), key=len, reverse=True):
        for form in (value, json.dumps(value)[1:-1], ascii(value)[1:-1]):
            text = text.replace(form, "<value>")
    return text


def _shape(response: Any) -> str:
    """Returns which fields of a message are set, without their values."""
    if not isinstance(response, Message):
        return "end"
    return " ".join(descriptor.name for descriptor, _ in response.ListFields())
