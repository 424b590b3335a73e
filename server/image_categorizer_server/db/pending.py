"""Counts what is not finished yet, over all tenants."""

from dataclasses import dataclass

from image_categorizer_server.db.database import connected


@dataclass(frozen=True, slots=True)
class Pending:
    """How much is not finished."""

    chunks: int
    """Of batches that run: ready or leased."""
    messages: int
    """In the outbox: bells to ring, webhooks to send, images to remove."""
    deliveries: int
    """Of webhooks, to be attempted now or later."""

    @property
    def is_any(self) -> bool:
        """Whether anything is."""
        return bool(self.chunks or self.messages or self.deliveries)

    def __str__(self) -> str:
        return (
            f"{self.chunks} chunks of batches, {self.messages} messages in the outbox, "
            f"{self.deliveries} deliveries of webhooks"
        )


async def count_pending() -> Pending:
    """Returns how much is not finished, all seen at one moment.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        row = await connection.fetchrow(
            """
            SELECT
                (SELECT count(*) FROM batch_chunks WHERE state IN ('READY', 'LEASED')) AS chunks,
                (SELECT count(*) FROM outbox WHERE done_time IS NULL) AS messages,
                (SELECT count(*) FROM webhook_deliveries WHERE state = 'PENDING') AS deliveries
            """
        )
    return Pending(row["chunks"], row["messages"], row["deliveries"])
