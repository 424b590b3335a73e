"""Versions that come and take over: loading, aliases, who answers."""

import asyncio

import pytest
from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import (
    DependencyDown,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    OperatorError,
)
from image_categorizer_server.inference.models.aliases import ALIASES_FILE
from image_categorizer_server.inference.models.registry import Registry

from tests.support.registries import running, state, until
from tests.unit.conftest import add


async def test_a_registry_takes_up_and_lets_go(repository, tiny, loader):
    async with running(repository, loader, scan_interval_s=0.05) as registry:
        with pytest.raises(ModelNotFound):
            registry.get("tiny", None)
        add(repository, tiny)
        await until(lambda: registry.answers("tiny"))
        assert registry.get("tiny", None).ref.version == 1
        assert registry.get("", None).ref.name == "starter"
        repository.remove("tiny", None)
        await until(lambda: "tiny" not in registry.names())
        with pytest.raises(ModelNotFound):
            registry.get("tiny", 1)


async def test_a_damaged_model_fails_alone_while_running_but_stops_a_start(
    repository, tiny, loader
):
    async with running(repository, loader) as registry:
        folder = add(repository, tiny)
        (folder / "config.json").write_text("{}")
        with pytest.raises(ModelFailed, match="damaged"):
            await registry.load("tiny", None)
        broken = registry.status("tiny", None)
        assert (broken.state, "damaged" in broken.state_message) == (ModelState.FAILED, True)
        assert registry.get("", None).ref.name == "starter"
        for version in (None, 1):
            with pytest.raises(ModelNotFound):
                registry.get("tiny", version)
        with pytest.raises(ModelFailed, match="does not answer: it is FAILED"):
            await registry.set_alias("tiny", "stable", 1, 0)
    with pytest.raises(OperatorError, match="models remove tiny --version 1"):
        await Registry(repository, loader, "starter", 60).load_all()


async def test_what_failed_is_tried_again_when_asked_for(repository, tiny, loader):
    folder = add(repository, tiny)
    config = (folder / "config.json").read_bytes()
    async with running(repository, loader) as registry:
        add(repository, tiny)
        broken = repository.latest("tiny")
        file = folder.parent / str(broken) / "config.json"
        file.write_text("{}")
        with pytest.raises(ModelFailed):
            await registry.load("tiny", None)
        file.write_bytes(config)
        assert (await registry.load("tiny", None)).state is ModelState.READY
        assert registry.get("tiny", None).ref.version == broken


async def test_a_manifest_that_cannot_be_read_is_not_loaded_and_tells_no_path(
    repository, tiny, loader, tmp_path
):
    async with running(repository, loader) as registry:
        (add(repository, tiny) / "manifest.json").write_text("{}")
        with pytest.raises(ModelFailed, match="manifest of version 1") as caught:
            await registry.load("tiny", None)
        assert str(tmp_path) not in caught.value.message
        with pytest.raises(ModelNotFound):
            await registry.load("tiny", 7)


async def test_a_default_model_that_is_missing_stops_the_start(repository, loader):
    with pytest.raises(OperatorError, match="CATEGORIZER_MODELS__DEFAULT"):
        await Registry(repository, loader, "nope", 60).load_all()


async def test_a_model_that_is_being_loaded_is_not_yet_there(repository, loader):
    registry = Registry(repository, loader, "starter", 60)
    loading = asyncio.create_task(registry.load_all())
    await until(registry.statuses, 10)
    with pytest.raises(ModelLoading):
        registry.get("", None)
    await loading
    await registry.close()


async def test_a_new_version_takes_over_unless_stable_is_set(repository, tiny, loader):
    add(repository, tiny)
    async with running(repository, loader) as registry:
        add(repository, tiny)
        await registry.load("tiny", None)
        assert registry.get("tiny", None).ref.version == 2
        await registry.set_alias("tiny", "stable", 2, 0)
        add(repository, tiny)
        await registry.load("tiny", 3)
        assert registry.get("tiny", None).ref.version == 2
        flipped = await registry.set_alias("tiny", "stable", 3, 0)
        assert (flipped.ref.version, flipped.aliases) == (3, ("stable",))
        assert registry.get("tiny", None).ref.version == 3
        assert registry.get("tiny", "stable").ref.version == 3
        assert registry.get("tiny", 2).ref.version == 2
        with pytest.raises(ModelNotFound, match="no alias 'canary'"):
            registry.get("tiny", "canary")
        await registry.set_alias("tiny", "stable", None, 0)
        assert registry.get("tiny", None).ref.version == 3
        with pytest.raises(ModelNotFound, match="no alias 'stable'"):
            registry.get("tiny", "stable")


async def test_aliases_survive_a_restart_and_reach_other_servers(repository, tiny, loader):
    for _ in range(2):
        add(repository, tiny)
    async with running(repository, loader) as one:
        await one.set_alias("tiny", "stable", 1, 0)
    async with (
        running(repository, loader) as one,
        running(repository, loader, scan_interval_s=0.05) as other,
    ):
        assert one.get("tiny", None).ref.version == other.get("tiny", None).ref.version == 1
        await one.set_alias("tiny", "stable", 2, 0)
        await until(lambda: other.get("tiny", None).ref.version == 2, 5)
        await one.set_alias("tiny", "canary", 1, 30)
        await until(lambda: other.status("tiny", 1).canary_percent == 30, 5)


async def test_a_server_flips_only_once_the_version_answers_there(repository, tiny, loader):
    add(repository, tiny)
    async with running(repository, loader) as registry:
        repository.change_alias("tiny", "stable", 1, 0)
        await registry.refresh()
        add(repository, tiny)
        repository.change_alias("tiny", "stable", 2, 0)
        repository.remove("tiny", 1)
        await registry.refresh()
        assert state(registry, "tiny", 2) is ModelState.LOADING
        # Removed from disk, it answers until its successor does.
        assert registry.get("tiny", None).ref.version == 1
        assert registry.status("tiny", 1).aliases == ("stable",)
        await registry.load("tiny", 2)
        assert registry.get("tiny", None).ref.version == 2
        await registry.refresh()
        with pytest.raises(ModelNotFound):
            registry.status("tiny", 1)


async def test_a_default_model_whose_stable_is_gone_stops_the_start(repository, tiny, loader):
    add(repository, tiny)
    repository.change_alias("tiny", "stable", 9, 0)
    with pytest.raises(OperatorError, match="models alias tiny stable"):
        await Registry(repository, loader, "tiny", 60).load_all()


async def test_malformed_aliases_stop_a_start_and_change_nothing_while_running(
    repository, tiny, loader
):
    folder = add(repository, tiny).parent
    add(repository, tiny)
    repository.change_alias("tiny", "stable", 1, 0)
    async with running(repository, loader) as registry:
        (folder / ALIASES_FILE).write_text("{")
        await registry.refresh()
        assert registry.get("tiny", None).ref.version == 1
        with pytest.raises(DependencyDown):
            await registry.set_alias("tiny", "stable", 2, 0)
    with pytest.raises(OperatorError, match="malformed"):
        await Registry(repository, loader, "starter", 60).load_all()


def test_an_aliased_version_is_removed_only_with_its_model(repository, tiny):
    folder = add(repository, tiny).parent
    add(repository, tiny)
    repository.change_alias("tiny", "stable", 1, 0)
    with pytest.raises(OperatorError, match="alias stable points to tiny version 1"):
        repository.remove("tiny", 1)
    assert repository.remove("tiny", None) == [1, 2]
    assert not folder.exists()
