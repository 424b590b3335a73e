"""A process that removes what is too old, as a worker's sweeper does; failpoints may kill it.

python -m tests.support.retainer DATABASE_URL SHIFT_S IMAGES_DAYS [FAILPOINT]
"""

import asyncio
import sys

from image_categorizer_server import clock, failpoints
from image_categorizer_server.domain.retention import DataClass
from image_categorizer_server.services.retention import Retentions

from tests.support.database import open_for_all_tenants

MAX_PAGES = 10_000


def retentions_of(**days: float) -> Retentions:
    """Returns retention by default for as many days as are given by class."""
    default_days = {name: days.get(name.value.lower(), 0) for name in DataClass}
    return Retentions(default_days, 60, cuts_audit=True)


async def main(database_url: str, shift_s: str, days: str, failpoint: str = "") -> None:
    clock.shift(float(shift_s))
    failpoints.arm(failpoint)
    async with open_for_all_tenants(database_url):
        await retentions_of(images=float(days)).sweep(MAX_PAGES)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
