"""The asyncio client's audit."""

from collections.abc import AsyncIterator
from typing import Unpack

from image_categorizer import _access_wire
from image_categorizer._access_values import AuditEvent, AuditFilter
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer._values import ExportFormat


class AsyncAudit:
    """Who did what in the tenant, and what was refused: `client.audit`. Needs the role admin."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @listing
    async def list(self, **wanted: Unpack[AuditFilter]) -> AsyncIterator[AuditEvent]:
        """Yields events, the newest first.

            async for event in client.audit.list(action="batch.", outcome="OK"):
                print(event.time, event.actor_id, event.action, event.resource)

        Args:
            wanted: which events; see `AuditFilter`.

        Raises:
            RoleInsufficient: the key does not have the role admin, or for `platform` platform.
        """
        request = _access_wire.list_events_request(wanted)
        method = self._connection.stubs.admin.ListAuditEvents
        async for page in self._connection.pages(method, request):
            for wire in page.events:
                yield _access_wire.audit_event(wire)

    async def export(
        self,
        format: ExportFormat = "jsonl",  # noqa: A002 - the contract's name
        **wanted: Unpack[AuditFilter],
    ) -> AsyncIterator[bytes]:
        """Yields events as pieces of a file, the oldest first. The export is an event, too.

            with open("audit.jsonl", "wb") as file:
                async for piece in client.audit.export():
                    file.write(piece)

        Args:
            format: `jsonl`, or `csv` with a header row.
            wanted: which events; see `AuditFilter`.

        Raises:
            RoleInsufficient: the key does not have the role admin, or for `platform` platform.
            InvalidRequest: the server does not know the format.
        """
        request = _access_wire.export_events_request(format, wanted)
        method = self._connection.stubs.admin.ExportAuditEvents
        async for body in self._connection.messages(method, request):
            yield body.data
