"""Versions that answer only requests that name them, and those that are still being made."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from image_categorizer_server.domain.classification import Caller, Lane
from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import (
    ModelInUse,
    ModelLoading,
    ModelNotFound,
)
from image_categorizer_server.inference.models.registry import (
    CLOSE_WITHIN_S,
    LATER_NICENESS,
    Registry,
)
from image_categorizer_server.settings.model import ModelSettings

from tests.support.registries import load_every_model, running, state, until
from tests.unit.conftest import add


def soon():
    return Caller("default", Lane.INTERACTIVE, time.monotonic() + 60.0)


async def test_a_version_on_request_answers_only_requests_that_name_it(twofold, tiny, loader):
    async with running(twofold, loader, later_s=0.0) as registry:
        await until(lambda: state(registry, "small", "fast") is ModelState.READY)
        for version, number in ((None, 1), ("fast", 2), (2, 2)):
            assert registry.get("small", version).ref.version == number
        assert registry.get("", "fast").ref.version == 2
        assert registry.status("small", None).ref.version == 1
        assert registry.status("small", "fast").aliases == ("fast",)
        assert [s.is_default for s in registry.statuses()] == [True, False]
        assert (await registry.load("small", None)).ref.version == 1
        # Without version 1, requests without a version would have no answer.
        with pytest.raises(ModelInUse, match="version 1 is all that the default model"):
            await registry.unload("small", 1)
        with pytest.raises(ModelInUse, match="alias 'fast' points to version 2"):
            await registry.unload("small", "fast")
        add(twofold, tiny, "small")
        await registry.load("small", None)
        assert registry.get("small", None).ref.version == 3
        await registry.set_alias("small", "fast", 3, 0)
        assert registry.get("small", "fast").ref.version == 3
        await registry.set_alias("small", "fast", None, 0)
        assert registry.get("small", "fast").ref.version == 2


async def test_a_version_on_request_delays_no_start(twofold, loader, caplog):
    caplog.set_level("INFO")
    settings = ModelSettings(default="small", scan_interval_s=60, max_concurrent_loads=2)
    registry = Registry(twofold, loader, settings, later_s=0.0)
    await registry.load_all()
    assert registry.is_ready
    await until(lambda: state(registry, "small", "fast") is ModelState.READY)
    assert registry.get("small", "fast").ref.version == 2
    await registry.close()
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    events = [(line["event"], line["version"]) for line in lines if "version" in line]
    assert events.index(("a model is ready", 1)) < events.index(("loading a model", 2))


async def test_a_version_on_request_is_loaded_sooner_if_a_request_asks_for_it(twofold, loader):
    async with running(twofold, loader) as registry:
        assert state(registry, "small", "fast") is ModelState.STANDBY
        await registry.demand("small", "fast", b"image", soon())
        assert registry.get("small", "fast").ref.version == 2


async def test_a_start_that_ends_at_once_does_not_wait_for_later_loads(twofold, loader):
    registry = Registry(twofold, loader, ModelSettings(default="small"), later_s=60.0)
    await load_every_model(registry)
    async with asyncio.timeout(CLOSE_WITHIN_S / 2):
        await registry.close()


@pytest.mark.skipif(
    sys.platform != "linux" or os.getpriority(os.PRIO_PROCESS, 0) >= LATER_NICENESS,
    reason="threads have priorities on Linux only, and those of this process are low already",
)
async def test_the_warm_up_of_a_later_load_gives_way(twofold, loader):
    def priorities():
        threads = [int(folder.name) for folder in Path("/proc/self/task").iterdir()]
        return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}

    async with running(twofold, loader, later_s=0.5) as registry:
        assert LATER_NICENESS not in priorities()
        await until(lambda: LATER_NICENESS in priorities())
        await until(lambda: state(registry, "small", "fast") is ModelState.READY)


async def test_a_version_that_is_being_made_is_asked_for_again(repository, tiny, loader):
    async with running(repository, loader, later_s=0.0) as registry:
        registry.expect("small", 2, "fast")
        for version in (2, "fast"):
            with pytest.raises(ModelLoading, match=f"version {version} of model 'small' is being"):
                registry.get("small", version)
        for version in (3, "slow"):
            with pytest.raises(ModelNotFound):
                registry.get("small", version)
        add(repository, tiny, "small")
        await registry.refresh()
        await registry.demand("small", 2, b"image", soon())
        with pytest.raises(ModelNotFound):
            registry.get("tiny", 2)
        await registry.load("small", 2)
        assert registry.get("small", 2).ref.version == 2
        registry.expect("small", 3, "fast")
        registry.expect_no_more("small", 3)  # as after a failure
        with pytest.raises(ModelNotFound):
            registry.get("small", "fast")
