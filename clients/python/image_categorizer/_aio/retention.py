"""The asyncio client's retention."""

from collections.abc import Mapping

from image_categorizer import _retention_wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._retention_values import RetentionForecast, RetentionRule
from image_categorizer.v1 import retention_pb2


class AsyncRetention:
    """How long the data of the tenant is kept: `client.retention`. Needs the role admin.

    The classes are `IMAGES`, `RESULTS`, `BATCHES`, `DELIVERIES` and `AUDIT`.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self) -> list[RetentionRule]:
        """Returns a rule for each class.

        Raises:
            RoleInsufficient: the key does not have the role admin.
        """
        request = retention_pb2.GetRetentionRequest()
        method = self._connection.stubs.admin.GetRetention
        return _retention_wire.rules((await self._connection.call(method, request)).rules)

    async def update(self, days: Mapping[str, int | None]) -> list[RetentionRule]:
        """Changes how long classes are kept; returns all rules. What is older goes soon.

            await client.retention.update({"IMAGES": 30, "RESULTS": None})

        Args:
            days: the number of days, by class; 0 for ever, None for the default of the server.

        Raises:
            InvalidRequest: a number of days is not valid.
            FailedPrecondition: the server removes no events of the audit.
            ValueError: a class is unknown.
        """
        request = retention_pb2.UpdateRetentionRequest(rules=_retention_wire.rules_of(days))
        method = self._connection.stubs.admin.UpdateRetention
        return _retention_wire.rules((await self._connection.call(method, request)).rules)

    async def preview(
        self, days: Mapping[str, int | None] | None = None
    ) -> list[RetentionForecast]:
        """Returns what would go now, by the rules of the tenant or by others. Removes nothing.

        Args:
            days: rules to try, as for `update`.

        Raises:
            InvalidRequest: a number of days is not valid.
            FailedPrecondition: the server removes no events of the audit.
            ValueError: a class is unknown.
        """
        rules = _retention_wire.rules_of(days or {})
        request = retention_pb2.PreviewRetentionRequest(rules=rules)
        method = self._connection.stubs.admin.PreviewRetention
        return _retention_wire.forecasts((await self._connection.call(method, request)).forecasts)
