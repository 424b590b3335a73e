"""The audit as its readers see it: listed, exported."""

from collections.abc import AsyncIterator
from dataclasses import replace

from image_categorizer_server import clock
from image_categorizer_server.db import audit as rows
from image_categorizer_server.db.tenant import find_tenant
from image_categorizer_server.domain.access import DEFAULT_TENANT
from image_categorizer_server.domain.audit import (
    AuditAction,
    AuditEvent,
    EventFilter,
    NewEvent,
    current_actor,
)
from image_categorizer_server.paging import Page, limit_of, number_of, page_from, token_of


class Audit:
    """Reads the events of chains.

    The chain of a deleted tenant stays.  A tenant that is created later with the same id continues
    it, but reads only its own part.
    """

    async def list(
        self, tenant_id: str, wanted: EventFilter, page_size: int, page_token: str
    ) -> Page[AuditEvent]:
        """Returns one page of a chain's events, the newest first.

        Args:
            tenant_id: the tenant, or `PLATFORM_CHAIN`.
            wanted: which events.
            page_size: see `limit_of`.
            page_token: of the page; empty for the first one.

        Raises:
            InvalidRequest: `page_size` is negative, or `page_token` is not one of ours.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        wanted = await _since_creation(tenant_id, wanted)
        found = await rows.list_events(tenant_id, wanted, number_of(page_token), limit + 1)
        return page_from(found, limit, lambda event: token_of(event.seq))

    async def export(
        self, tenant_id: str, wanted: EventFilter, file_format: str
    ) -> AsyncIterator[AuditEvent]:
        """Yields a chain's events, the oldest first.  That is an event itself, and the last one.

        Args:
            tenant_id: the tenant, or `PLATFORM_CHAIN`.
            wanted: which events.
            file_format: what becomes of them: `jsonl` or `csv`.

        Raises:
            DependencyDown: the database does not answer.
        """
        export = NewEvent(
            tenant_id,
            clock.now(),
            current_actor.get(),
            AuditAction.AUDIT_EXPORT,
            detail={"format": file_format},
        )
        wanted = await _since_creation(tenant_id, wanted)
        await rows.append([export])
        async for event in rows.export_events(tenant_id, wanted):
            yield event


async def _since_creation(tenant_id: str, wanted: EventFilter) -> EventFilter:
    tenant = await find_tenant(tenant_id)
    if tenant is None or tenant_id == DEFAULT_TENANT:  # the platform, or what is never deleted
        return wanted
    start = tenant.create_time
    return replace(wanted, start_time=max(start, wanted.start_time or start))
