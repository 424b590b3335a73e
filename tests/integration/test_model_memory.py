"""What models cost in memory, and what unloading them gives back, in a process of its own."""

import subprocess
import sys

import pytest
from image_categorizer_server.inference.models.packaged import NAME
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)

from tests.conftest import EXPORTS
from tests.unit.conftest import add

COUNTS = 1, 8, 32
MAX_COST_MB = 120
MIN_GIVEN_BACK = 0.85
# Calls no gc.collect().
MEASURE = """
import asyncio, sys, time
from pathlib import Path

import numpy as np
import psutil
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from tests.unit.conftest import LIMITS

def megabytes():
    return psutil.Process().memory_info().rss / 1e6

async def main(root, cache, count):
    repository = Repository(Path(root))
    loader = Loader(Decoder(LIMITS), InferenceSettings(), ModelSettings(cache_path=Path(cache)))
    registry = Registry(repository, loader, ModelSettings())
    await registry.load_all()
    before = megabytes()
    begun = time.monotonic()
    for number in range(count):
        (Path(root) / f".m{number}").rename(Path(root) / f"m{number}")
    await asyncio.gather(*(registry.load(f"m{number}", None) for number in range(count)))
    took = time.monotonic() - begun
    for number in range(count):
        registry.get(f"m{number}", None).runtime.predict([np.zeros((224, 224, 3), np.uint8)] * 4)
    loaded = megabytes()
    counted = sum(registry.status(f"m{number}", 1).resident_bytes for number in range(count))
    for number in range(count):
        await registry.unload(f"m{number}", 1)
    print("measured", before, loaded, megabytes(), took, counted / 1e6)
    await registry.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def root(tmp_path, test_data, count):
    """A repository with the packaged model, and others that are hidden until they are measured."""
    repository = Repository(tmp_path / "models")
    # The first model loads libraries and starts threads.
    with repository.incoming() as incoming:
        repository.publish(incoming, write_version(NAME, 1, installed_weights(NAME), incoming))
    for number in range(count):
        add(repository, test_data / "models" / "mobilenet_v2", f"m{number}")
        (tmp_path / "models" / f"m{number}").rename(tmp_path / "models" / f".m{number}")
    return tmp_path / "models"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", COUNTS)
def test_models_cost_little_and_unloading_gives_it_back(root, count):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, root, EXPORTS, str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("measured "))
    before_mb, loaded_mb, unloaded_mb, seconds, counted_mb = map(float, line.split()[1:])
    print(f"{before_mb:.0f} MB, {loaded_mb:.0f} MB with {count} more models, {seconds:.1f} s,")
    print(f"{unloaded_mb:.0f} MB after unloading them; counted as {counted_mb:.0f} MB")
    taken_mb = loaded_mb - before_mb
    assert taken_mb / count <= MAX_COST_MB
    if count > 1:  # one alone is as small as what else changes
        assert loaded_mb - unloaded_mb >= MIN_GIVEN_BACK * taken_mb
