"""Carries what transactions left in the outbox to the doorbell."""

from image_categorizer_server import failpoints
from image_categorizer_server.db import outbox
from image_categorizer_server.domain.outbox import OutboxKind
from image_categorizer_server.stores.queue import Doorbell

AT_ONCE = 500
# Two processes that relay at once must not take the same row; one that died frees its own soon.
LEASE_S = 5.0


async def relay(doorbell: Doorbell, batch_id: str | None = None) -> int:
    """Rings for batches that wait in the outbox; returns for how many.

    Rung twice is as good as once, so a process may die anywhere in here.

    Args:
        doorbell: what to ring.
        batch_id: only for this batch; None: for all.

    Raises:
        DependencyDown: the database or Redis does not answer.
    """
    rung = 0
    while rows := await outbox.take([OutboxKind.DOORBELL], AT_ONCE, LEASE_S, batch_id):
        failpoints.hit("relay.taken")
        for wanted in dict.fromkeys(row.batch_id for row in rows):
            await doorbell.ring(wanted)
        failpoints.hit("relay.rung")
        await outbox.done([row.outbox_id for row in rows])
        rung += len(rows)
        if len(rows) < AT_ONCE:
            break
    return rung
