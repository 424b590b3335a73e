"""The packaged model: where its int8 version is made, and that it is made once."""

import asyncio
import fcntl
import shutil
from pathlib import Path

import pytest
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.models.packaged import (
    FAST_FORMAT,
    FAST_LOCK,
    FORMAT,
    LOOK_EVERY_S,
    NAME,
    ensure_fast_version,
    ensure_packaged,
    has_fast_version,
    lacks_fast_version,
    multiplies_int8,
    repository_of,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.tasks import CANCEL_AGAIN_AFTER_S, TaskOwner

from tests.support.polling import eventually, stays

PROCESSOR = "processor\t: {number}\nflags\t\t: fpu sse2 avx2 {flags}\nbugs\t\t: vnni\n\n"
needs_int8 = pytest.mark.skipif(
    not multiplies_int8(), reason="this processor has neither VNNI nor AMX"
)


@pytest.fixture
def cpu_info(tmp_path):
    """Writes a file like /proc/cpuinfo of two cores."""

    def write(flags):
        file = tmp_path / "cpuinfo"
        file.write_text("".join(PROCESSOR.format(number=n, flags=flags) for n in range(2)))
        return file

    return write


@pytest.fixture(scope="module")
async def made(tmp_path_factory):
    """A cache with version 1 of the packaged model."""
    folder = tmp_path_factory.mktemp("cache")
    await ensure_packaged(settings_with(cache_path=folder).models)
    return folder


@pytest.fixture
def cache(made, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "cache"))


def settings_with(inference="cpu", **models):
    return Settings(inference={"device": inference}, models={"packaged_fast": True} | models)


@pytest.mark.parametrize("flags", ["avx512_vnni", "avx_vnni", "amx_tile amx_int8 amx_bf16"])
def test_processors_with_vnni_or_amx_have_the_int8_version(cpu_info, flags):
    assert has_fast_version(settings_with(), cpu_info(flags))


@pytest.mark.parametrize("flags", ["", "avx512f", "amx_bf16", "vnni_to_come"])
def test_other_processors_do_not(cpu_info, tmp_path, flags):
    assert not has_fast_version(settings_with(), cpu_info(flags))
    assert not has_fast_version(settings_with(), tmp_path / "none")


@pytest.mark.parametrize(
    "settings",
    [settings_with(packaged=False), settings_with(packaged_fast=False), settings_with("cuda")],
)
def test_settings_and_gpus_leave_it_out(cpu_info, settings):
    assert not has_fast_version(settings, cpu_info("avx_vnni"))


@needs_int8
async def test_it_is_made_once_and_answers_on_request_only(cache, tmp_path, caplog):
    settings = settings_with(cache_path=cache).model_copy(
        update={"model_path": tmp_path / "models"}
    )
    await asyncio.gather(*(ensure_fast_version(settings) for _ in range(3)))
    repository = repository_of(settings)
    first, fast = repository.scan()
    manifest = read_manifest(fast.folder)
    assert (manifest.version, manifest.precision, damage(fast.folder, manifest)) == (2, "int8", "")
    assert manifest.origin.startswith(f"int8 of {NAME} version 1, sha256:")
    assert manifest.quantization.pictures == 164
    assert (repository.find(NAME), repository.find(NAME, "fast")) == (first, fast)
    await ensure_fast_version(settings)
    assert repository.scan() == [first, fast]
    assert sorted(file.name for file in fast.folder.parent.iterdir()) == [FAST_LOCK, "2"]
    without = settings.model_copy(
        update={"models": settings.models.model_copy(update={"packaged_fast": False})}
    )
    assert repository_of(without).scan() == [first]
    assert repository_of(without).aliases_of(NAME, 2) == ()
    assert caplog.text == ""


async def test_without_version_1_there_is_nothing_to_make_it_of(tmp_path, caplog):
    await ensure_fast_version(settings_with(cache_path=tmp_path))
    assert (list(tmp_path.iterdir()), caplog.text) == ([], "")


@needs_int8
async def test_one_process_makes_it_and_the_others_wait_for_that(cache):
    settings = settings_with(cache_path=cache)
    folder = cache / f"packaged-int8-{FORMAT}.{FAST_FORMAT}" / NAME
    folder.mkdir(parents=True)
    async with asyncio.TaskGroup() as tasks:
        with (folder / FAST_LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            other = tasks.create_task(ensure_fast_version(settings))
            await stays(lambda: not other.done(), 2 * LOOK_EVERY_S)
            assert [file.name for file in folder.iterdir()] == [FAST_LOCK]
            assert lacks_fast_version(settings)
        # The first has not made it after all.
    assert not lacks_fast_version(settings)


@needs_int8
async def test_who_waits_too_long_for_another_process_goes_on(cache, caplog):
    settings = settings_with(cache_path=cache, export_timeout_s=1)
    folder = cache / f"packaged-int8-{FORMAT}.{FAST_FORMAT}" / NAME
    folder.mkdir(parents=True)
    with (folder / FAST_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await ensure_fast_version(settings)
    assert "another process takes too long" in caplog.text


@needs_int8
async def test_a_stop_meanwhile_leaves_nothing(cache, caplog):
    folder = cache / f"packaged-int8-{FORMAT}.{FAST_FORMAT}" / NAME
    async with TaskOwner(clean_up_s=CANCEL_AGAIN_AFTER_S) as tasks:
        tasks.start(ensure_fast_version(settings_with(cache_path=cache)), "maker")
        await eventually(lambda: list(folder.glob(".incoming-*")), 30)
    assert ([file.name for file in folder.iterdir()], caplog.text) == ([FAST_LOCK], "")


@needs_int8
async def test_a_failure_is_logged_and_concerns_no_other_model(cache, caplog):
    (cache / f"packaged-{FORMAT}" / NAME / "1" / "manifest.json").write_text("{")
    await ensure_fast_version(settings_with(cache_path=cache))
    assert "the int8 version of the packaged model cannot be made" in caplog.text
    assert not list(cache.glob("packaged-int8-*/*/2"))
