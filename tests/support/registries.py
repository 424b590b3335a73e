"""Registries with all models loaded, and waiting for what they do."""

import asyncio
from contextlib import asynccontextmanager

from image_categorizer_server.inference.models.registry import Registry


@asynccontextmanager
async def running(repository, loader, default="starter", scan_interval_s=60.0):
    """A registry with all models loaded."""
    registry = Registry(repository, loader, default, scan_interval_s)
    await registry.load_all()
    watching = asyncio.create_task(registry.watch())
    try:
        yield registry
    finally:
        watching.cancel()
        await registry.close()


async def until(condition, limit_s=60):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)


def state(registry, name, version):
    return registry.status(name, version).state
