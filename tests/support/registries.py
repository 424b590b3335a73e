"""Registries with all models loaded."""

from contextlib import asynccontextmanager

from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.tasks import TaskOwner

from tests.support.polling import eventually

LOADED_WITHIN_S = 60.0  # the first load of a model exports it


def models_settings(default, scan_interval_s=60.0, max_resident_bytes=0):
    return ModelSettings(
        default=default,
        scan_interval_s=scan_interval_s,
        max_concurrent_loads=1,
        max_resident_bytes=max_resident_bytes,
    )


@asynccontextmanager
async def running(
    repository, loader, default="small", scan_interval_s=60.0, max_resident_bytes=0, later_s=60.0
):
    """Yields a registry with all models loaded, which watches its repository.

    Those that answer only on request are loaded after `later_s`.
    """
    settings = models_settings(default, scan_interval_s, max_resident_bytes)
    registry = Registry(repository, loader, settings, later_s=later_s)
    await load_every_model(registry)
    async with TaskOwner() as tasks:
        tasks.start(registry.watch(), "model watcher")
        yield registry
        tasks.check()
    await registry.close()


async def load_every_model(registry):
    """Loads all models, and returns once each answers or has failed."""
    await registry.load_all()
    await until(lambda: all(s.state is not ModelState.LOADING for s in registry.statuses()))


async def until(condition):
    """Waits for what needs a model to be loaded."""
    await eventually(condition, LOADED_WITHIN_S)


def state(registry, name, version):
    return registry.status(name, version).state
