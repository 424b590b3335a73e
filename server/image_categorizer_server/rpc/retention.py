"""AdminService: retention."""

from collections.abc import Iterable

import grpc
from image_categorizer.v1 import retention_pb2

from image_categorizer_server.domain.retention import (
    DataClass,
    RetentionForecast,
    RetentionRule,
)
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.validation import raise_if_any
from image_categorizer_server.services.retention import Retentions, whole_days

Context = grpc.aio.ServicerContext


class RetentionServicer:
    """Serves the RPCs of AdminService about retention."""

    def __init__(self, retentions: Retentions) -> None:
        self._retentions = retentions

    async def GetRetention(
        self,
        request: retention_pb2.GetRetentionRequest,
        context: Context[retention_pb2.GetRetentionRequest, retention_pb2.Retention],
    ) -> retention_pb2.Retention:
        return _retention(await self._retentions.get(current_tenant()))

    async def UpdateRetention(
        self,
        request: retention_pb2.UpdateRetentionRequest,
        context: Context[retention_pb2.UpdateRetentionRequest, retention_pb2.Retention],
    ) -> retention_pb2.Retention:
        changes = _changes(request.rules)
        return _retention(await self._retentions.update(current_tenant(), changes))

    async def PreviewRetention(
        self,
        request: retention_pb2.PreviewRetentionRequest,
        context: Context[retention_pb2.PreviewRetentionRequest, retention_pb2.RetentionPreview],
    ) -> retention_pb2.RetentionPreview:
        forecasts = await self._retentions.preview(current_tenant(), _changes(request.rules))
        return retention_pb2.RetentionPreview(forecasts=map(_forecast, forecasts))


def _changes(rules: Iterable[retention_pb2.RetentionRule]) -> dict[DataClass, int | None]:
    changes: dict[DataClass, int | None] = {}
    wrong: list[tuple[str, str]] = []
    known = DataClass.__members__
    for number, rule in enumerate(rules):
        field = f"rules[{number}].data_class"
        names = retention_pb2.DataClass.keys()
        name = names[rule.data_class] if 0 <= rule.data_class < len(names) else ""
        if name not in known:
            wrong.append((field, f"must be one of {', '.join(known)}"))
        elif known[name] in changes:
            wrong.append((field, "has two rules"))
        else:
            changes[known[name]] = rule.days if rule.HasField("days") else None
    raise_if_any(wrong)
    return changes


def _retention(rules: Iterable[RetentionRule]) -> retention_pb2.Retention:
    return retention_pb2.Retention(rules=map(_rule, rules))


def _rule(value: RetentionRule) -> retention_pb2.RetentionRule:
    return retention_pb2.RetentionRule(
        data_class=retention_pb2.DataClass.Value(value.data_class.value),
        days=whole_days(value.days),
        is_default=value.is_default,
    )


def _forecast(value: RetentionForecast) -> retention_pb2.RetentionForecast:
    return retention_pb2.RetentionForecast(
        rule=_rule(value.rule),
        count=value.count,
        size_bytes=value.size_bytes,
        oldest_time=timestamp(value.oldest_time),
        held_count=value.held_count,
    )
