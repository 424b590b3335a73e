"""AdminService: the audit."""

import json
from collections.abc import AsyncIterator

import grpc
from google.api import httpbody_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from image_categorizer.v1 import audit_pb2

from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.audit import (
    PLATFORM_CHAIN,
    AuditEvent,
    AuditOutcome,
    EventFilter,
    canonical,
)
from image_categorizer_server.errors import RoleInsufficient
from image_categorizer_server.paging import Page
from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.convert import moment, timestamp
from image_categorizer_server.rpc.export import csv_row, file_format, formats, pieces
from image_categorizer_server.rpc.validation import MAX_NAME_CHARACTERS, raise_if_any
from image_categorizer_server.services.audit import Audit

Context = grpc.aio.ServicerContext
Filtered = audit_pb2.ListAuditEventsRequest | audit_pb2.ExportAuditEventsRequest
OUTCOMES = dict(audit_pb2.AuditEvent.Outcome.items())
COLUMNS = (
    "seq",
    "time",
    "actor_id",
    "action",
    "resource",
    "outcome",
    "address",
    "request_id",
    "detail",
    "prev_hash",
    "hash",
)


class AuditServicer:
    """Serves the RPCs of AdminService about the audit."""

    def __init__(self, audit: Audit, max_page_bytes: int) -> None:
        self._audit = audit
        self._max_page_bytes = max_page_bytes

    async def ListAuditEvents(
        self,
        request: audit_pb2.ListAuditEventsRequest,
        context: Context[audit_pb2.ListAuditEventsRequest, audit_pb2.ListAuditEventsResponse],
    ) -> audit_pb2.ListAuditEventsResponse:
        chain, wanted = _chain(request), _filter(request)

        async def events(size: int, token: str) -> Page[AuditEvent]:
            return await self._audit.list(chain, wanted, size, token)

        page = await pages.read(request, events, _event, self._max_page_bytes)
        return audit_pb2.ListAuditEventsResponse(
            events=page.messages, next_page_token=page.next_page_token
        )

    async def ExportAuditEvents(
        self,
        request: audit_pb2.ExportAuditEventsRequest,
        context: Context[audit_pb2.ExportAuditEventsRequest, httpbody_pb2.HttpBody],
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        form = file_format(FORMATS, request.format, bom=request.bom)
        chain, wanted = _chain(request), _filter(request)
        await context.send_initial_metadata(
            (("content-disposition", f'attachment; filename="audit.{form.suffix}"'),)
        )
        events = self._audit.export(chain, wanted, form.suffix)
        async for piece in pieces(events, form):
            yield httpbody_pb2.HttpBody(content_type=form.content_type, data=piece)


def _chain(request: Filtered) -> str:
    """Returns the chain that the caller wants to read.

    Raises:
        RoleInsufficient: it is not the caller's.
    """
    if not request.platform:
        return current_tenant()
    principal = current_call.get().principal
    assert principal is not None
    if principal.role < Role.PLATFORM:
        raise RoleInsufficient("the audit of the platform requires the role 'platform'")
    return PLATFORM_CHAIN


def _filter(request: Filtered) -> EventFilter:
    wrong: list[tuple[str, str]] = []
    texts = {name: getattr(request, name) for name in ("actor_id", "action", "resource", "address")}
    for name, text in texts.items():
        if len(text) > MAX_NAME_CHARACTERS or "\0" in text:
            wrong.append((name, f"must have at most {MAX_NAME_CHARACTERS} characters, and no NUL"))
    if request.outcome not in audit_pb2.AuditEvent.Outcome.values():
        wrong.append(("outcome", f"{request.outcome} is not an outcome"))
    start_time = moment(request, "start_time", wrong)
    end_time = moment(request, "end_time", wrong)
    raise_if_any(wrong)
    name = audit_pb2.AuditEvent.Outcome.Name(request.outcome)
    outcome = AuditOutcome[name].value if request.outcome else ""
    return EventFilter(start_time=start_time, end_time=end_time, outcome=outcome, **texts)


def _event(value: AuditEvent) -> audit_pb2.AuditEvent:
    return audit_pb2.AuditEvent(
        tenant_id=value.tenant_id,
        seq=value.seq,
        time=timestamp(value.time),
        actor_id=value.actor_id,
        action=value.action,
        resource=value.resource,
        outcome=OUTCOMES.get(value.outcome, audit_pb2.AuditEvent.OUTCOME_UNSPECIFIED),
        address=value.address,
        request_id=value.request_id,
        detail=ParseDict(dict(value.detail), Struct()),
        prev_hash=value.prev_hash,
        hash=value.hash,
    )


def _json_line(event: AuditEvent) -> str:
    return f"{event.line()}\n"


def _csv_line(event: AuditEvent) -> str:
    fields = json.loads(event.line())
    fields["detail"] = canonical(event.detail)
    return csv_row([fields[column] for column in COLUMNS])


FORMATS = formats(COLUMNS, _json_line, _csv_line)
