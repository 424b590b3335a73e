"""Loading, unloading and reloading versions, aliases, and which version answers."""

import asyncio
import json
import os
import weakref

import pytest
from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import (
    DependencyDown,
    ModelFailed,
    ModelFailing,
    ModelInUse,
    ModelLoading,
    ModelNotFound,
    OperatorError,
)
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.models.aliases import ALIASES_FILE
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.registry import (
    Registry,
)
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.runtimes.fake import FAKE_MODELS, FakeTimes
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.telemetry import configure_logging

from tests.conftest import SLACK_S
from tests.support.batching import image
from tests.support.polling import stays
from tests.support.registries import load_every_model, models_settings, running, state, until
from tests.unit.conftest import LIMITS, add


async def test_a_running_registry_loads_new_models_and_drops_removed_ones(repository, tiny, loader):
    async with running(repository, loader, scan_interval_s=0.05) as registry:
        with pytest.raises(ModelNotFound):
            registry.get("tiny", None)
        add(repository, tiny)
        await until(lambda: registry.answers("tiny"))
        assert registry.get("tiny", None).ref.version == 1
        assert registry.get("", None).ref.name == "small"
        repository.remove("tiny", None)
        await until(lambda: "tiny" not in registry.names())
        with pytest.raises(ModelNotFound):
            registry.get("tiny", 1)


async def test_a_damaged_model_affects_no_other_while_running_or_at_a_start(
    repository, tiny, loader
):
    async with running(repository, loader) as registry:
        folder = add(repository, tiny)
        (folder / "config.json").write_text("{}")
        with pytest.raises(ModelFailed, match="damaged"):
            await registry.load("tiny", None)
        broken = registry.status("tiny", None)
        assert (broken.state, "damaged" in broken.state_message) == (ModelState.FAILED, True)
        assert registry.get("", None).ref.name == "small"
        for version in (None, 1):
            with pytest.raises(ModelNotFound):
                registry.get("tiny", version)
        with pytest.raises(ModelFailed, match="does not answer: it is FAILED"):
            await registry.set_alias("tiny", "stable", 1, 0)
    async with running(repository, loader) as registry:
        await until(lambda: state(registry, "tiny", 1) is ModelState.FAILED)
        registry.check_ready()
    async with running(repository, loader, "tiny") as registry:
        with pytest.raises(ModelFailing, match="of the default model 'tiny' cannot answer: Its f"):
            registry.check_ready()
        assert registry.get("small", None).ref.name == "small"


async def test_load_retries_a_failed_version(repository, tiny, loader):
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


@pytest.mark.parametrize("content", [b"{}", b"[]", b"no JSON", b"\xff\xfe{}", b""])
async def test_a_malformed_manifest_is_a_failed_version_and_the_error_has_no_path(
    repository, tiny, loader, tmp_path, content
):
    async with running(repository, loader) as registry:
        manifest = add(repository, tiny) / "manifest.json"
        good = manifest.read_bytes()
        manifest.write_bytes(content)
        with pytest.raises(ModelFailed, match="manifest of version 1") as caught:
            await registry.load("tiny", None)
        assert str(tmp_path) not in caught.value.message
        status = registry.status("tiny", 1)
        assert (status.state, status.state_message) == (ModelState.FAILED, caught.value.message)
        manifest.write_bytes(good)
        assert (await registry.load("tiny", None)).state is ModelState.READY
        with pytest.raises(ModelNotFound):
            await registry.load("tiny", 7)


async def test_without_its_default_model_the_server_is_not_ready_until_that_is_added(
    repository, tiny, loader
):
    async with running(repository, loader, "tiny", scan_interval_s=0.05) as registry:
        with pytest.raises(ModelFailing, match="or change CATEGORIZER_MODELS__DEFAULT"):
            registry.check_ready()
        assert registry.get("small", None).ref.name == "small"
        add(repository, tiny)
        await until(lambda: registry.is_ready)
        registry.check_ready()


def make_file(model):
    (model / "2").write_text("no folder")


def make_loop(model):
    (model / "2").symlink_to(model / "2")


def make_dangling_link(model):
    (model / "2").symlink_to(model / "nowhere")


def make_empty_folder(model):
    (model / "2").mkdir()


@pytest.mark.parametrize("make", [make_file, make_loop, make_dangling_link, make_empty_folder])
async def test_whatever_stands_in_a_model_folder_the_model_answers(repository, tiny, loader, make):
    make(add(repository, tiny).parent)
    async with running(repository, loader, "tiny") as registry:
        assert registry.get("tiny", None).ref.version == 1
        others = [s.state for s in registry.statuses() if s.ref.version == 2]
        assert others in ([], [ModelState.FAILED])


def make_model_loop(models):
    (models / "tiny").symlink_to(models / "tiny")


def make_model_file(models):
    (models / "tiny").write_text("no folder")


def make_name_in_latin_1(models):
    (models / os.fsdecode(b"m\xe9t\xe9o")).mkdir()


def make_version_without_manifest(models):
    (models / "tiny" / "2").mkdir(parents=True)


def make_version_without_number(models):
    (models / "tiny" / "v2").mkdir(parents=True)


@pytest.mark.parametrize(
    "case",
    [
        (make_model_loop, "tiny", "it cannot be read: Too many levels of symbolic links"),
        (make_model_file, "tiny", "it cannot be read: Not a directory"),
        (make_name_in_latin_1, "m\\udce9t\\udce9o", "its name is not one of a model"),
        (make_version_without_manifest, "tiny/2", "it has no manifest.json"),
        (make_version_without_number, "tiny/v2", "its name is not a version number"),
    ],
)
async def test_what_is_passed_over_in_the_repository_is_logged_once(
    tmp_path, repository, loader, caplog, case
):
    make, name, reason = case
    models = tmp_path / "models"
    models.mkdir()
    make(models)
    async with running(repository, loader) as registry:
        for _ in range(3):
            await registry.refresh()
        assert registry.get("", None).ref.name == "small"
    lines = [record.msg for record in caplog.records if record.levelname == "WARNING"]
    warnings = [(line["path"], line["reason"]) for line in lines]
    assert warnings == [(f"'{models}/{name}'", reason)]


async def test_a_repository_that_is_not_a_folder_is_logged(tmp_path, repository, loader, caplog):
    (tmp_path / "models").write_text("no folder")
    async with running(repository, loader):
        pass
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert "it is not a folder" in [line.get("reason") for line in lines]


async def test_a_model_that_is_still_loading_does_not_answer(repository, loader):
    registry = Registry(repository, loader, models_settings("small"))
    loading = asyncio.create_task(registry.load_all())
    await until(registry.statuses)
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
        await until(lambda: other.get("tiny", None).ref.version == 2)
        await one.set_alias("tiny", "canary", 1, 30)
        await until(lambda: other.status("tiny", 1).canary_percent == 30)


async def test_a_server_moves_an_alias_only_once_the_version_is_ready_there(
    repository, tiny, loader
):
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


async def test_a_default_model_without_its_stable_is_not_ready(repository, tiny, loader):
    add(repository, tiny)
    repository.change_alias("tiny", "stable", 9, 0)
    async with running(repository, loader, "tiny") as registry:
        with pytest.raises(ModelFailing, match="models alias tiny stable"):
            registry.check_ready()


async def test_malformed_aliases_change_nothing_while_running_and_stop_guesses_at_a_start(
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
    async with running(repository, loader, "tiny") as registry:
        with pytest.raises(ModelFailing, match="default model 'tiny' cannot be read"):
            registry.check_ready()
        with pytest.raises(ModelNotFound, match="aliases of model 'tiny' cannot be read"):
            registry.get("tiny", None)
        assert registry.get("tiny", 2).ref.version == 2
        (folder / ALIASES_FILE).unlink()
        await registry.refresh()
        assert registry.get("tiny", None).ref.version == 2


async def test_unloading_frees_memory_and_loading_brings_the_version_back(repository, tiny, loader):
    for _ in range(2):
        add(repository, tiny)
    async with running(repository, loader) as registry:
        runtime = weakref.ref(registry.get("tiny", 2).runtime)
        assert (await registry.unload("tiny", 2)).state is ModelState.UNLOADED
        assert runtime() is None
        assert registry.get("tiny", None).ref.version == 1
        with pytest.raises(ModelNotFound, match="it is UNLOADED"):
            registry.get("tiny", 2)
        await registry.refresh()
        assert (await registry.unload("tiny", 2)).state is ModelState.UNLOADED
        assert (await registry.load("tiny", None)).state is ModelState.READY
        assert registry.get("tiny", None).ref.version == 2


async def test_a_version_in_use_is_not_unloaded(repository, tiny, loader):
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


async def test_a_model_runs_until_its_last_user_has_left(repository, tiny, loader):
    for _ in range(2):
        add(repository, tiny)
    async with running(repository, loader) as registry:
        with registry.using("tiny", 1) as model:
            unloading = asyncio.create_task(registry.unload("tiny", 1))
            await until(lambda: state(registry, "tiny", 1) is ModelState.UNLOADED)
            await stays(lambda: not unloading.done(), 0.1)
            assert model.runtime.name == "onnx"
        await asyncio.wait_for(unloading, 5)


async def test_unloading_holds_on_every_server_and_after_a_restart(repository, tiny, loader):
    for _ in range(3):
        add(repository, tiny)
    async with (
        running(repository, loader) as one,
        running(repository, loader, scan_interval_s=0.05) as other,
    ):
        await one.unload("tiny", 3)
        await until(lambda: state(other, "tiny", 3) is ModelState.UNLOADED)
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


async def test_unload_cancels_a_load(repository, tiny, loader):
    add(repository, tiny)
    async with running(repository, loader) as registry:
        add(repository, tiny)
        loading = asyncio.create_task(registry.load("tiny", 2))
        await until(lambda: len(registry.statuses()) == 3)
        await registry.unload("tiny", 2)
        with pytest.raises(ModelFailed, match="unloaded meanwhile"):
            await loading
        assert state(registry, "tiny", 2) is ModelState.UNLOADED


async def test_a_cancelled_caller_does_not_cancel_the_load(repository, tiny, loader):
    async with running(repository, loader) as registry:
        add(repository, tiny)
        loading = asyncio.create_task(registry.load("tiny", 1))
        await until(lambda: "tiny" in registry.names())
        loading.cancel()
        await until(lambda: registry.answers("tiny"))


class Unreadable(Repository):
    """A repository whose scans raise an error while `error` returns one."""

    def __init__(self, root, shipped, error):
        super().__init__(root, [shipped])
        self._error = error

    def scan(self):
        if error := self._error():
            raise error
        return super().scan()


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        ValueError("embedded null byte"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
async def test_the_watch_goes_on_when_the_repository_cannot_be_read(
    tmp_path, shipped, tiny, loader, error
):
    raised = []

    def next_error():
        # The first scan is the start's; the later ones fail until three have.
        raised.append(error)
        return error if 1 < len(raised) < 5 else None

    repository = Unreadable(tmp_path / "models", shipped, next_error)
    async with running(repository, loader, scan_interval_s=0.02) as registry:
        await until(lambda: len(raised) > 5)
        assert registry.get("", None).ref.name == "small"
        add(Repository(tmp_path / "models"), tiny)
        await until(lambda: registry.answers("tiny"))


async def test_the_watch_goes_on_beside_a_manifest_that_is_not_utf_8(repository, tiny, loader):
    async with running(repository, loader, scan_interval_s=0.02) as registry:
        (add(repository, tiny) / "manifest.json").write_bytes(b'{"name": "\xff"}')
        add(repository, tiny, name="other")
        await until(lambda: registry.answers("other"))
        with pytest.raises(ModelFailed, match="manifest of version 1"):
            await registry.load("tiny", None)


async def test_an_unreadable_repository_fails_a_load_but_no_request(tmp_path, shipped, loader):
    errors = [None, OSError(5, "Input/output error")]
    repository = Unreadable(tmp_path / "models", shipped, lambda: errors.pop(0))
    async with running(repository, loader) as registry:
        with pytest.raises(DependencyDown, match="cannot be read"):
            await registry.load("small", None)
        assert registry.get("", None).ref.name == "small"


async def test_an_unreadable_repository_prevents_the_start(tmp_path, shipped, loader):
    error = OSError(5, "Input/output error", "/models")
    repository = Unreadable(tmp_path / "models", shipped, lambda: error)
    with pytest.raises(OperatorError, match="Input/output error: /models"):
        await Registry(repository, loader, models_settings("small")).load_all()


async def test_a_model_whose_call_hangs_does_not_hold_up_the_close(tmp_path, capfd):
    configure_logging("INFO", "json")
    times = FakeTimes(call_ms=3000, image_ms=0, raw=True)
    loader = Loader(Decoder(LIMITS), InferenceSettings(), ModelSettings(), times)
    repository = Repository(tmp_path / "models", [FAKE_MODELS])
    registry = Registry(repository, loader, models_settings("fake"), close_within_s=0.1)
    await load_every_model(registry)
    with registry.using("fake", None) as model:
        asking = asyncio.create_task(model.batcher.submit(image(1, in_s=600)))
        await until(lambda: model.batcher.longest_busy_s() > 0)
        asking.cancel()
    async with asyncio.timeout(SLACK_S):
        await registry.close()
    assert model.batcher.longest_busy_s() > 0
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "left" in line]
    assert (line["level"], line["tasks"]) == ("error", ["end of fake 1"])
