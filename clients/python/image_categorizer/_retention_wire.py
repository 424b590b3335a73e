"""Converts between the clients' values about retention and protobuf messages."""

from collections.abc import Iterable, Mapping
from datetime import UTC

from image_categorizer._retention_values import RetentionForecast, RetentionRule
from image_categorizer.v1 import retention_pb2


def rules_of(days: Mapping[str, int | None]) -> list[retention_pb2.RetentionRule]:
    """Returns new rules.

    Raises:
        ValueError: a class is unknown.
    """
    return [
        retention_pb2.RetentionRule(
            data_class=retention_pb2.DataClass.Value(data_class.upper()), days=number
        )
        for data_class, number in days.items()
    ]


def rules(wire: Iterable[retention_pb2.RetentionRule]) -> list[RetentionRule]:
    """Returns rules."""
    return [_rule(rule) for rule in wire]


def forecasts(wire: Iterable[retention_pb2.RetentionForecast]) -> list[RetentionForecast]:
    """Returns forecasts."""
    return [
        RetentionForecast(
            rule=_rule(found.rule),
            count=found.count,
            size_bytes=found.size_bytes,
            oldest_time=(
                found.oldest_time.ToDatetime(UTC) if found.HasField("oldest_time") else None
            ),
            held_count=found.held_count,
        )
        for found in wire
    ]


def _rule(wire: retention_pb2.RetentionRule) -> RetentionRule:
    name = retention_pb2.DataClass.Name(wire.data_class)
    return RetentionRule(name, wire.days, wire.is_default)
