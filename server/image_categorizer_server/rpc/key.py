"""AdminService: API keys."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from image_categorizer.v1 import key_pb2

from image_categorizer_server import clock
from image_categorizer_server.domain.access import ROLES, Principal, Role, Scope
from image_categorizer_server.domain.key import (
    ApiKey,
    KeyChanges,
    KeySpec,
    KeyState,
    Network,
    network_of,
)
from image_categorizer_server.errors import InvalidRequest, KeyNotFound
from image_categorizer_server.paging import Page
from image_categorizer_server.quoting import quoted
from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.validation import IDENTIFIER, raise_if_any, required
from image_categorizer_server.services.key import ApiKeys

Context = grpc.aio.ServicerContext
Value = TypeVar("Value")
Wrong = list[tuple[str, str]]


class KeyServicer:
    """Serves the RPCs of AdminService about API keys."""

    def __init__(self, keys: ApiKeys, max_page_bytes: int) -> None:
        self._keys = keys
        self._max_page_bytes = max_page_bytes

    async def CreateApiKey(
        self,
        request: key_pb2.CreateApiKeyRequest,
        context: Context[key_pb2.CreateApiKeyRequest, key_pb2.ApiKey],
    ) -> key_pb2.ApiKey:
        wrong: Wrong = []
        spec = KeySpec(
            request.name,
            _role(request.role, wrong),
            _scopes(request.scopes, wrong),
            _networks(request.allowed_addresses, wrong),
            _time(request.expire_time, wrong) if request.HasField("expire_time") else None,
        )
        raise_if_any(wrong)
        made = await self._keys.create(_caller(), spec)
        return _api_key(made.key, made.secret)

    async def GetApiKey(
        self,
        request: key_pb2.GetApiKeyRequest,
        context: Context[key_pb2.GetApiKeyRequest, key_pb2.ApiKey],
    ) -> key_pb2.ApiKey:
        return _api_key(await self._keys.get(_caller().tenant_id, _key_id(request.key_id)))

    async def ListApiKeys(
        self,
        request: key_pb2.ListApiKeysRequest,
        context: Context[key_pb2.ListApiKeysRequest, key_pb2.ListApiKeysResponse],
    ) -> key_pb2.ListApiKeysResponse:
        tenant_id, state = _caller().tenant_id, _state(request.state)

        async def keys(size: int, token: str) -> Page[ApiKey]:
            return await self._keys.list_page(tenant_id, state, size, token)

        page = await pages.read(request, keys, _api_key, self._max_page_bytes)
        return key_pb2.ListApiKeysResponse(keys=page.messages, next_page_token=page.next_page_token)

    async def UpdateApiKey(
        self,
        request: key_pb2.UpdateApiKeyRequest,
        context: Context[key_pb2.UpdateApiKeyRequest, key_pb2.ApiKey],
    ) -> key_pb2.ApiKey:
        key_id = _key_id(request.key_id)
        return _api_key(await self._keys.update(_caller(), key_id, _changes(request)))

    async def RotateApiKey(
        self,
        request: key_pb2.RotateApiKeyRequest,
        context: Context[key_pb2.RotateApiKeyRequest, key_pb2.ApiKey],
    ) -> key_pb2.ApiKey:
        key_id = _key_id(request.key_id)
        overlap = _span(request.overlap) if request.HasField("overlap") else None
        made = await self._keys.rotate(_caller(), key_id, overlap)
        return _api_key(made.key, made.secret)

    async def RevokeApiKey(
        self,
        request: key_pb2.RevokeApiKeyRequest,
        context: Context[key_pb2.RevokeApiKeyRequest, key_pb2.ApiKey],
    ) -> key_pb2.ApiKey:
        return _api_key(await self._keys.revoke(_caller(), _key_id(request.key_id)))


def _caller() -> Principal:
    principal = current_call.get().principal
    assert principal is not None, "no RPC about keys is public"
    return principal


def _key_id(text: str) -> str:
    wrong: Wrong = []
    required("key_id", text, wrong)
    raise_if_any(wrong)
    if not IDENTIFIER.fullmatch(text):
        raise KeyNotFound("no such API key")
    return text


def _changes(request: key_pb2.UpdateApiKeyRequest) -> KeyChanges:
    """Returns the fields that are set, and those that are to be emptied."""
    wrong: Wrong = []
    changes = _cleared(request, wrong)
    if request.HasField("name"):
        changes["name"] = request.name
    if request.HasField("role"):
        changes["role"] = _role(request.role, wrong)
    if request.scopes:
        changes["scopes"] = _scopes(request.scopes, wrong)
    if request.allowed_addresses:
        changes["allowed_addresses"] = _networks(request.allowed_addresses, wrong)
    if request.HasField("expire_time"):
        changes["expire_time"] = _time(request.expire_time, wrong)
    raise_if_any(wrong)
    return changes


def _cleared(request: key_pb2.UpdateApiKeyRequest, wrong: Wrong) -> KeyChanges:
    empty: KeyChanges = {"scopes": frozenset(), "allowed_addresses": (), "expire_time": None}
    given = {field.name for field, _ in request.ListFields()}
    for field in request.clear:
        if field not in empty:
            wrong.append(("clear", f"{quoted(field)} is not one of: {', '.join(empty)}"))
        elif field in given:
            wrong.append(("clear", f"{field} is also set"))
    return cast("KeyChanges", {field: empty.get(field) for field in request.clear})


def _role(text: str, wrong: Wrong) -> Role:
    role = ROLES.get(text)
    if role is None:
        wrong.append(("role", f"is required and one of: {', '.join(ROLES)}"))
        return Role.VIEWER
    return role


def _scopes(texts: Iterable[str], wrong: Wrong) -> frozenset[Scope]:
    return frozenset(_parsed("scopes", texts, Scope, "is not a scope", wrong))


def _networks(texts: Iterable[str], wrong: Wrong) -> tuple[Network, ...]:
    what = "is not a network such as 192.0.2.0/24, or an address"
    return tuple(dict.fromkeys(_parsed("allowed_addresses", texts, network_of, what, wrong)))


def _parsed(
    field: str, texts: Iterable[str], parse: Callable[[str], Value], problem: str, wrong: Wrong
) -> list[Value]:
    found: list[Value] = []
    for text in texts:
        try:
            found.append(parse(text))
        except ValueError:
            wrong.append((field, f"{quoted(text)} {problem}"))
    return found


def _time(wire: Timestamp, wrong: Wrong) -> datetime:
    try:
        return wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        wrong.append(("expire_time", "is not a time"))
        return clock.now()


def _span(wire: Duration) -> timedelta:
    try:
        return wire.ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidRequest.of([("overlap", "is not a duration")]) from None


def _state(value: key_pb2.ApiKey.State.ValueType) -> KeyState | None:
    if not value:
        return None
    if value not in key_pb2.ApiKey.State.values():
        raise InvalidRequest.of([("state", f"{value} is not a state")])
    return KeyState(key_pb2.ApiKey.State.Name(value))


def _api_key(value: ApiKey, secret: str = "") -> key_pb2.ApiKey:
    now = clock.now()
    end = value.previous_secret_expire_time
    return key_pb2.ApiKey(
        key_id=value.key_id,
        name=value.name,
        role=value.role.name.lower(),
        scopes=sorted(scope.value for scope in value.scopes),
        state=key_pb2.ApiKey.State.Value(value.state(now).value),
        prefix=value.prefix,
        allowed_addresses=map(str, value.allowed_addresses),
        create_time=timestamp(value.create_time),
        expire_time=timestamp(value.expire_time),
        revoke_time=timestamp(value.revoke_time),
        last_use_time=timestamp(value.last_use_time),
        previous_secret_expire_time=timestamp(end if end and end > now else None),
        created_by=value.created_by,
        secret=secret,
    )
