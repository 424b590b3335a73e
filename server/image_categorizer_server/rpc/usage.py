"""AdminService: usage."""

from datetime import date

import grpc
from image_categorizer.v1 import usage_pb2

from image_categorizer_server.domain.usage import Usage, UsageGroup, UsageRow
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.validation import raise_if_any
from image_categorizer_server.services.usage import read_usage

Request = usage_pb2.GetUsageRequest
Response = usage_pb2.GetUsageResponse
DATE_LENGTH = len("2026-03-01")


class UsageServicer:
    """Serves the RPC of AdminService about usage."""

    async def GetUsage(
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        """Returns what the tenant has used."""
        wrong: list[tuple[str, str]] = []
        start = date_in("start_date", request.start_date, wrong)
        end = date_in("end_date", request.end_date, wrong)
        group = UsageGroup.DAY
        if request.group_by:
            try:
                group = UsageGroup(request.group_by)
            except ValueError:
                wrong.append(("group_by", "must be day, key or model"))
        raise_if_any(wrong)
        first, last, rows = await read_usage(current_tenant(), start, end, group)
        total = Usage()
        for row in rows:
            total += row.usage
        return Response(
            start_date=first.isoformat(),
            end_date=last.isoformat(),
            rows=map(_row, rows),
            total=_row(UsageRow(None, None, None, total)),
        )


def date_in(field: str, text: str, wrong: list[tuple[str, str]]) -> date | None:
    """Returns a day such as 2026-03-01; None if `text` is empty."""
    if not text:
        return None
    try:
        if len(text) == DATE_LENGTH:  # ISO 8601 has other forms, too
            return date.fromisoformat(text)
    except ValueError:
        pass
    wrong.append((field, "must be a date such as 2026-03-01"))
    return None


def _row(row: UsageRow) -> usage_pb2.UsageRow:
    usage = row.usage
    return usage_pb2.UsageRow(
        day=row.day.isoformat() if row.day else "",
        key_id=row.key_id or "",
        model=row.model or "",
        images=usage.images,
        cached_images=usage.cached_images,
        failed_images=usage.failed,
        bytes=usage.bytes,
        model_ms=usage.model_ms,
    )
