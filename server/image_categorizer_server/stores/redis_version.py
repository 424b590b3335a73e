"""Which releases of Redis and Valkey have known faults that matter here.

CVE-2025-49844: whoever may run a script can run any code in the server's process.  CVE-2025-46817
to 46819 are of the same kind.  Mended in Redis 6.2.20, 7.2.11, 7.4.6, 8.0.4 and 8.2.2, and in
Valkey 7.2.11, 8.0.6 and 8.1.4: https://redis.io/blog/security-advisory-cve-2025-49844/
"""

import asyncio
from collections.abc import Mapping

from image_categorizer_server.clock import Backoff
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.stores.redis import RedisClient
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Release = tuple[int, ...]
# The first release of each line without the faults.
MENDED: dict[str, tuple[Release, ...]] = {
    "Redis": ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "Valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
}
FIRST_RETRY_S, MAX_RETRY_S = 5.0, 300.0
TIMEOUT_S = 5.0


def vulnerable_release(info: Mapping[str, object]) -> str | None:
    """Returns name and version of a server that should be replaced; None if it need not be.

    Args:
        info: what `INFO server` answers.
    """
    name, key = "Redis", "redis_version"
    if "valkey_version" in info:  # whose redis_version is that which it is compatible with
        name, key = "Valkey", "valkey_version"
    text = str(info.get(key, ""))
    release = tuple(int(part) for part in text.split(".") if part.isdecimal())
    if not release:
        return None
    lines = MENDED[name]
    floor = next((line for line in lines if line[:2] == release[:2]), None)
    is_old = release < floor if floor else release < lines[-1]
    return f"{name} {text}" if is_old else None


async def warn_of_vulnerable_redis(redis: RedisClient) -> None:
    """Logs a warning if the server should be replaced, once it answers."""
    backoff = Backoff(FIRST_RETRY_S, MAX_RETRY_S)
    while True:
        try:
            info = await redis.run(lambda: redis.commands.info("server"), TIMEOUT_S)
        except DependencyDown:
            await asyncio.sleep(backoff.next_s())
            continue
        if release := vulnerable_release(info):
            log.warning("Redis has known faults; use a newer release", release=release)
        return
