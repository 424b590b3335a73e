"""A process that adds events to the chain of `t1`, one transaction each, until it is killed.

Arguments: the address of the database, the name of the writer, its first number.  Prints each
number once it is committed.
"""

import asyncio
import sys

from image_categorizer_server import clock
from image_categorizer_server.db import audit
from image_categorizer_server.db.database import open_database, transaction
from image_categorizer_server.domain.audit import Actor, AuditAction, current_actor
from image_categorizer_server.domain.tenant import bind_tenant
from image_categorizer_server.settings.database import DatabaseSettings


async def write(url: str, name: str, number: int) -> None:
    current_actor.set(Actor(name))
    bind_tenant("t1")
    async with open_database(url, DatabaseSettings(pool_size=1)):
        while True:
            async with transaction() as connection:
                await audit.record_event(
                    connection,
                    "t1",
                    AuditAction.BATCH_CREATE,
                    f"{name}-{number}",
                    clock.now(),
                    item_count=number,
                )
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
