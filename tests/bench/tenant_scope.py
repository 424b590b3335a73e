"""What it costs to bind a connection to a tenant: `python -m tests.bench.tenant_scope FOLDER`.

Runs the same statement in turns, bound and unbound, each time on a connection from the pool.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path

from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.tenant import one_tenant, unbind_tenant

from tests.support.cluster import open_cluster
from tests.support.database import open_for_all_tenants

ROUNDS, STATEMENTS = 20, 200
QUERY = "SELECT * FROM tenants WHERE tenant_id = $1"


async def run(count: int) -> tuple[float, float]:
    """Returns the seconds that one statement takes, and those of this process's processor time."""
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(count):
        async with connected() as connection:
            await connection.fetchrow(QUERY, "default")
    return (
        (time.perf_counter() - begin_s) / count,
        (time.process_time() - begin_cpu_s) / count,
    )


async def measure(folder: Path) -> None:
    """Prints the medians of all rounds."""
    unbound, bound = [], []
    async with open_cluster(folder) as cluster, open_for_all_tenants(cluster.postgres.url):
        for number in range(ROUNDS + 1):
            unbind_tenant()
            plain = await run(STATEMENTS)
            with one_tenant("default"):
                scoped = await run(STATEMENTS)
            if number:  # the first round warms up
                unbound.append(plain)
                bound.append(scoped)
    for name, index in (("wall clock", 0), ("processor", 1)):
        without, within = (
            statistics.median(sample[index] for sample in samples) * 1e6
            for samples in (unbound, bound)
        )
        print(f"{name}: {without:.0f} µs unbound, {within:.0f} µs bound")


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1])))
