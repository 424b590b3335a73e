"""The bound on the memory of models: which stay, which go, and how requests wait for the others."""

import asyncio
import time

import pytest
from image_categorizer_server.domain.classification import Caller, Lane
from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import DeadlineExceeded, ModelFailed, ModelLoading, Overloaded
from image_categorizer_server.inference.models.manifest import FileEntry
from image_categorizer_server.inference.models.repository import Repository, manifest_of
from image_categorizer_server.inference.models.residency import memory_of

from tests.support.polling import stays
from tests.support.registries import running, state, until
from tests.unit.conftest import add

READY, STANDBY, UNLOADED = ModelState.READY, ModelState.STANDBY, ModelState.UNLOADED


def caller(within_s=60.0):
    return Caller("default", Lane.INTERACTIVE, time.monotonic() + within_s)


@pytest.fixture
def max_bytes(repository, tiny):
    """Adds models a, b and c; returns a bound that lets two of them stay beside the default."""
    for name in "abc":
        add(repository, tiny, name)
    sizes = {found.name: memory_of(manifest_of(found)) for found in repository.scan()}
    return sizes["small"] + int(2.5 * sizes["a"])


@pytest.fixture
async def registry(repository, loader, max_bytes):
    async with running(repository, loader, max_resident_bytes=max_bytes) as registry:
        yield registry


def states(registry):
    return {name: state(registry, name, 1) for name in ("small", "a", "b", "c")}


async def ask(registry, name, within_s=60.0):
    await registry.demand(name, None, b"image", caller(within_s))
    return registry.get(name, None)


async def test_without_a_bound_all_models_stay(repository, loader, max_bytes):
    async with running(repository, loader) as registry:
        assert set(states(registry).values()) == {READY}


async def test_what_does_not_fit_waits_until_it_is_asked_for(registry):
    assert states(registry) == {"small": READY, "a": READY, "b": READY, "c": STANDBY}
    with pytest.raises(ModelLoading):
        registry.get("c", None)
    model = await ask(registry, "c")
    assert (model.ref.name, state(registry, "c", 1)) == ("c", READY)


async def test_the_one_used_least_recently_goes(registry):
    registry.get("a", None)
    await ask(registry, "c")
    assert states(registry) == {"small": READY, "a": READY, "b": STANDBY, "c": READY}
    await ask(registry, "b")
    assert states(registry) == {"small": READY, "a": STANDBY, "b": READY, "c": READY}


async def test_a_version_can_be_asked_for_by_its_number(registry):
    await registry.demand("c", 1, b"image", caller())
    assert registry.get("c", 1).ref.name == "c"


async def test_a_shipped_alias_keeps_nothing_in_memory(tmp_path, tiny, loader):
    shipped = tmp_path / "shipped"
    for _ in range(2):
        add(Repository(shipped), tiny, "small")
    repository = Repository(tmp_path / "models", [shipped], {"small": {"fast": 2}})
    add(repository, tiny, "a")
    max_bytes = int(2.5 * memory_of(manifest_of(repository.scan()[0])))
    async with running(repository, loader, max_resident_bytes=max_bytes) as registry:
        assert (state(registry, "small", 1), state(registry, "a", 1)) == (READY, READY)
        assert state(registry, "small", "fast") is STANDBY
        await registry.demand("small", "fast", b"image", caller())
        assert registry.get("small", "fast").ref.version == 2
        await ask(registry, "a")
        assert state(registry, "small", "fast") is STANDBY
        assert registry.get("small", None).ref.version == 1


async def test_a_later_load_takes_no_memory_from_others(tmp_path, tiny, loader):
    shipped = tmp_path / "shipped"
    for _ in range(2):
        add(Repository(shipped), tiny, "small")
    repository = Repository(tmp_path / "models", [shipped], {"small": {"fast": 2}})
    add(repository, tiny, "a")
    max_bytes = int(2.5 * memory_of(manifest_of(repository.scan()[0])))
    options = {"max_resident_bytes": max_bytes, "later_s": 0.0}
    async with running(repository, loader, **options) as registry:
        await stays(lambda: state(registry, "small", "fast") is STANDBY, 0.5)
        assert state(registry, "a", 1) is READY


async def test_what_an_alias_points_to_stays(registry):
    await registry.set_alias("a", "best", 1, 0)
    registry.get("b", None)
    await ask(registry, "c")
    assert states(registry) == {"small": READY, "a": READY, "b": STANDBY, "c": READY}


async def test_an_alias_can_be_set_to_a_version_in_standby(registry):
    status = await registry.set_alias("c", "best", 1, 0)
    assert (status.state, status.aliases) == (READY, ("best",))


async def test_an_alias_that_another_server_sets_loads_its_version(registry, repository):
    repository.change_alias("c", "best", 1, 0)
    await registry.refresh()
    await until(lambda: state(registry, "c", 1) is READY)
    assert registry.get("c", "best").ref.name == "c"


async def test_those_who_wait_together_cause_one_load(registry):
    models = await asyncio.gather(*(ask(registry, "c") for _ in range(5)))
    assert all(model is models[0] for model in models)


async def by_order(registry, repository):
    await registry.load("c", 1)


async def by_alias(registry, repository):
    await registry.set_alias("c", "best", 1, 0)


async def by_alias_of_another_server(registry, repository):
    repository.change_alias("c", "best", 1, 0)
    await registry.refresh()


@pytest.mark.parametrize("load", [by_order, by_alias, by_alias_of_another_server])
async def test_requests_wait_for_what_leaves_standby_whatever_loads_it(registry, repository, load):
    async with asyncio.TaskGroup() as tasks:
        # Until the request of `a` is answered, the load waits for its memory.
        with registry.using("a", None):
            registry.get("b", None)
            tasks.create_task(load(registry, repository))
            await until(lambda: state(registry, "a", 1) is STANDBY)
            assert state(registry, "c", 1) is ModelState.LOADING
            with pytest.raises(DeadlineExceeded, match="'c' was still being loaded"):
                await ask(registry, "c", within_s=0.05)
            asked = tasks.create_task(ask(registry, "c"))
            tree = registry.tree("c", None)
            await asyncio.sleep(0)
            assert not asked.done()
    assert asked.result().ref.name == "c"
    assert list(tree.outputs(["bee"])) == [1]


async def test_a_request_waits_no_longer_than_its_deadline(registry):
    with pytest.raises(DeadlineExceeded, match="'c' was still being loaded"):
        await ask(registry, "c", within_s=0.0)
    await ask(registry, "c")


async def test_the_images_that_wait_are_bounded(registry, loader):
    waiting = [
        asyncio.create_task(registry.demand("c", None, b"image", caller()))
        for _ in range(loader.bounds.max_queued + 1)
    ]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(a) for a in answers if a is not None] == [Overloaded]


async def test_a_request_in_flight_is_answered_before_its_model_goes(registry):
    with registry.using("a", None):
        registry.get("b", None)
        loading = asyncio.create_task(ask(registry, "c"))
        await until(lambda: state(registry, "a", 1) is STANDBY)
        assert state(registry, "c", 1) is ModelState.LOADING
        assert not loading.done()
    await loading


async def test_what_never_fits_says_which_setting_is_too_small(repository, loader, tiny):
    add(repository, tiny, "a")
    async with running(repository, loader, max_resident_bytes=1) as registry:
        assert registry.get("", None).ref.name == "small"
        assert state(registry, "a", 1) is STANDBY
        for asking in (ask(registry, "a"), registry.load("a", 1)):
            with pytest.raises(ModelFailed, match=r"MAX_RESIDENT_BYTES leaves 0 beside"):
                await asking
        assert state(registry, "a", 1) is STANDBY


async def test_unloading_a_version_in_standby_keeps_it_unloaded(registry):
    assert (await registry.unload("c", 1)).state is UNLOADED
    await registry.demand("c", None, b"image", caller())
    assert state(registry, "c", 1) is UNLOADED
    assert (await registry.load("c", 1)).state is READY


async def test_categories_are_known_in_standby(registry):
    assert state(registry, "c", 1) is STANDBY
    assert list(registry.tree("c", None).outputs(["bee"])) == [1]
    with pytest.raises(KeyError):
        registry.tree("c", None).outputs(["emu"])


def sized(manifest, sizes, **changes):
    digest = "0" * 64
    files = {name: FileEntry(sha256=digest, bytes=size) for name, size in sizes.items()}
    return manifest.model_copy(update={"files": files, **changes})


def test_what_a_model_takes_is_counted_from_its_weights(repository):
    manifest = manifest_of(next(iter(repository.scan())))
    assert memory_of(sized(manifest, {"model.safetensors": 400})) == 1200
    assert memory_of(sized(manifest, {"model.safetensors": 400}, precision="int8")) == 300
    both = {"model.safetensors": 400, "model.onnx": 410}
    assert memory_of(sized(manifest, both, format="onnx")) == 1230
