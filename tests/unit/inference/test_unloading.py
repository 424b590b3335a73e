"""Versions that go: unloading, draining, who keeps them, who may not lose them."""

import asyncio
import gc
import weakref

import pytest
from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import (
    ModelFailed,
    ModelInUse,
    ModelNotFound,
)

from tests.support.registries import running, state, until
from tests.unit.conftest import add


async def test_unloading_frees_and_loading_brings_back(repository, tiny, loader):
    for _ in range(2):
        add(repository, tiny)
    async with running(repository, loader) as registry:
        runtime = weakref.ref(registry.get("tiny", 2).runtime)
        assert (await registry.unload("tiny", 2)).state is ModelState.UNLOADED
        gc.collect()
        assert runtime() is None
        assert registry.get("tiny", None).ref.version == 1
        with pytest.raises(ModelNotFound, match="it is UNLOADED"):
            registry.get("tiny", 2)
        await registry.refresh()
        assert (await registry.unload("tiny", 2)).state is ModelState.UNLOADED
        assert (await registry.load("tiny", None)).state is ModelState.READY
        assert registry.get("tiny", None).ref.version == 2


async def test_what_is_relied_on_is_not_unloaded(repository, tiny, loader):
    for _ in range(2):
        add(repository, tiny)
    async with running(repository, loader, default="tiny") as registry:
        await registry.set_alias("tiny", "canary", 1, 0)
        with pytest.raises(ModelInUse, match="'canary' points to version 1"):
            await registry.unload("tiny", "canary")
        await registry.set_alias("tiny", "canary", None, 0)
        await registry.unload("tiny", 1)
        with pytest.raises(ModelInUse, match="all that the default model"):
            await registry.unload("tiny", 2)
        # Someone points to it.
        repository.change_alias("tiny", "stable", 1, 0)
        await registry.refresh()
        await until(lambda: registry.get("", None).ref.version == 1)
        assert state(registry, "tiny", 1) is ModelState.READY
        assert registry.get("", None).ref.version == 1


async def test_who_uses_a_model_keeps_it(repository, tiny, loader):
    for _ in range(2):
        add(repository, tiny)
    async with running(repository, loader) as registry:
        with registry.using("tiny", 1) as model:
            unloading = asyncio.create_task(registry.unload("tiny", 1))
            await until(lambda: state(registry, "tiny", 1) is ModelState.UNLOADED, 5)
            await asyncio.sleep(0.1)
            assert not unloading.done()
            assert model.runtime.name == "onnx"
        await asyncio.wait_for(unloading, 5)


async def test_what_is_unloaded_is_so_on_every_server_and_after_a_restart(repository, tiny, loader):
    for _ in range(3):
        add(repository, tiny)
    async with (
        running(repository, loader) as one,
        running(repository, loader, scan_interval_s=0.05) as other,
    ):
        await one.unload("tiny", 3)
        await until(lambda: state(other, "tiny", 3) is ModelState.UNLOADED, 5)
        await one.unload("tiny", 2)
        await one.load("tiny", 3)
        await until(lambda: other.get("tiny", None).ref.version == 3)
    async with running(repository, loader) as again:
        states = [state(again, "tiny", number).value for number in (1, 2, 3)]
        assert states == ["READY", "UNLOADED", "READY"]
        assert not again.get("tiny", 1).batcher.is_broken
    repository.remove("tiny", 3)
    repository.remove("tiny", 2)
    add(repository, tiny)  # gets the number of a version that was unloaded
    async with running(repository, loader) as again:
        assert again.get("tiny", None).ref.version == 2


async def test_an_unload_ends_a_loading(repository, tiny, loader):
    add(repository, tiny)
    async with running(repository, loader) as registry:
        add(repository, tiny)
        loading = asyncio.create_task(registry.load("tiny", 2))
        await until(lambda: len(registry.statuses()) == 3, 5)
        await registry.unload("tiny", 2)
        with pytest.raises(ModelFailed, match="unloaded meanwhile"):
            await loading
        assert state(registry, "tiny", 2) is ModelState.UNLOADED


async def test_who_leaves_while_a_model_is_loaded_does_not_end_the_loading(
    repository, tiny, loader
):
    async with running(repository, loader) as registry:
        add(repository, tiny)
        loading = asyncio.create_task(registry.load("tiny", 1))
        await until(lambda: "tiny" in registry.names(), 5)
        loading.cancel()
        await until(lambda: registry.answers("tiny"))
