"""The model that ships with the program: EfficientNet-Lite0, from its own Python package.

    <cache>/packaged-<format>/efficientnet_lite0/1/        a model version like any other
    <cache>/packaged-int8-<format>/efficientnet_lite0/2/   its int8 version, `fast`

Version 1 is made once, before the first server looks into the repository.  Version 2 is made once
in the background, by the first server that runs where int8 is faster; it answers only requests that
name it.
"""

import asyncio
import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.conversion import (
    ConversionFailed,
    ensure_converted,
)
from image_categorizer_server.inference.models.manifest import MANIFEST_FILE
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.inference import NVIDIA_DEVICE
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
NAME = "efficientnet_lite0"
FORMAT = 4
"""Higher for other contents of the folder."""
MODULE = "image_categorizer_server.inference.packaging.efficientnet_lite"
FAST, FAST_VERSION = "fast", 2
FAST_FORMAT = 1
"""Higher for another int8 version."""
FAST_MODULE = "image_categorizer_server.inference.packaging.int8_ranges"
FAST_LOCK = ".making.lock"
LOOK_EVERY_S = 0.5
"""How often a process looks whether another one has made it."""
CPU_INFO = Path("/proc/cpuinfo")
INT8_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
"""What Linux calls instructions that multiply int8.  Without them, int8 is hardly faster than fp32,
and ONNX Runtime's sums may overflow, which costs accuracy."""


def repository_of(settings: Settings, *others: Path) -> Repository:
    """Returns the repository, with the packaged model.

    Args:
        settings: which models ship, and where they are.
        others: folders of other models that ship with the program.
    """
    shipped = [_folder(settings.models)] if settings.models.packaged else []
    if not has_fast_version(settings):
        return Repository(settings.model_path, [*shipped, *others])
    shipped.append(_fast_folder(settings.models))
    return Repository(settings.model_path, [*shipped, *others], {NAME: {FAST: FAST_VERSION}})


async def ensure_packaged(settings: ModelSettings) -> None:
    """Makes the packaged model, unless it is there or not wanted; takes seconds.

    Raises:
        OperatorError: its weights are not installed, or the cache cannot be written to.
    """
    if not settings.packaged:
        return
    folder = _folder(settings) / NAME / "1"
    try:
        await ensure_converted(folder, MANIFEST_FILE, MODULE, [NAME], settings.export_timeout_s)
    except ConversionFailed as error:
        raise OperatorError(f"The packaged model {NAME} cannot be made: {error}") from None
    except OSError as error:
        raise OperatorError(
            f"The packaged model {NAME} cannot be written to {folder}: {error.strerror}. "
            "Choose another folder with CATEGORIZER_MODELS__CACHE_PATH."
        ) from None


def has_fast_version(settings: Settings, cpu_info: Path = CPU_INFO) -> bool:
    """Returns whether the packaged model has an int8 version here.

    It has one if the settings want it, a CPU answers, and its instructions multiply int8.

    Args:
        settings: of the server.
        cpu_info: what Linux says about the processor.
    """
    device = settings.inference.device
    is_on_cpu = device == "cpu" or (device == "auto" and not NVIDIA_DEVICE.exists())
    is_wanted = settings.models.packaged and settings.models.packaged_fast
    return is_wanted and is_on_cpu and multiplies_int8(cpu_info)


def multiplies_int8(cpu_info: Path = CPU_INFO) -> bool:
    """Returns whether the processor has VNNI or AMX.  Elsewhere than on Linux that is unknown: no.

    Args:
        cpu_info: a file like /proc/cpuinfo.
    """
    try:
        text = cpu_info.read_text(errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and not INT8_FLAGS.isdisjoint(flags[1].split())


def lacks_fast_version(settings: Settings) -> bool:
    """Returns whether the packaged model is to have an int8 version, and it is not made yet."""
    folder = _fast_folder(settings.models) / NAME / str(FAST_VERSION)
    return has_fast_version(settings) and not (folder / MANIFEST_FILE).exists()


async def ensure_fast_version(settings: Settings) -> None:
    """Makes the int8 version of the packaged model, unless it is there or not wanted.

    Takes seconds of one core, at the lowest priority.  While another process makes it, waits for
    that one.  A failure is logged, and concerns no other model; the next start tries again.
    """
    source = _folder(settings.models) / NAME / "1"
    if not (lacks_fast_version(settings) and (source / MANIFEST_FILE).exists()):
        return
    try:
        await make_fast_version(settings.models)
    except TimeoutError:
        log.warning("another process takes too long to make the int8 version of the packaged model")
    except (ConversionFailed, OSError) as error:
        log.warning("the int8 version of the packaged model cannot be made", reason=str(error))


async def make_fast_version(settings: ModelSettings) -> None:
    """Makes the int8 version of the packaged model, whatever processor this is.

    Raises:
        ConversionFailed: it cannot be made.
        TimeoutError: another process takes too long to make it.
        OSError: the cache cannot be written to.
    """
    folder = _fast_folder(settings) / NAME / str(FAST_VERSION)
    words = [str(_folder(settings) / NAME / "1"), str(FAST_VERSION)]
    timeout_s = settings.export_timeout_s
    async with asyncio.timeout(2 * timeout_s):  # as long as another process may take, and ours
        while not await _make_if_first(folder, words, timeout_s):  # noqa: ASYNC110 - another process
            await asyncio.sleep(LOOK_EVERY_S)


async def _make_if_first(folder: Path, words: list[str], timeout_s: float) -> bool:
    """Makes a folder unless another process does; returns whether it is there now."""
    with _is_first(folder.parent) as is_first:
        if is_first:
            await ensure_converted(folder, MANIFEST_FILE, FAST_MODULE, words, timeout_s)
        return is_first


@contextmanager
def _is_first(folder: Path) -> Iterator[bool]:
    """Yields whether no other process of this machine is in such a block.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FAST_LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _folder(settings: ModelSettings) -> Path:
    return settings.cache_path.expanduser() / f"packaged-{FORMAT}"


def _fast_folder(settings: ModelSettings) -> Path:
    return settings.cache_path.expanduser() / f"packaged-int8-{FORMAT}.{FAST_FORMAT}"
