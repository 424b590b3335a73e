"""Blocks the network. Provides models, loaders and micro-batchers."""

import shutil

import pytest
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from pytest_socket import disable_socket, enable_socket

from tests.conftest import EXPORTS
from tests.support.batching import Device, batcher_of
from tests.support.tiny_model import write_tiny_model


@pytest.fixture(autouse=True)
def no_network():
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


CATEGORIES = ["ant", "bee", "cat"]
LIMITS = ImageLimits(10_000_000, 50_000_000, 16_384, 100, 100)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), CATEGORIES)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """A folder with the model `small`, which ships with the program as far as a test can tell."""
    folder = tmp_path_factory.mktemp("shipped")
    add(
        Repository(folder),
        write_tiny_model(tmp_path_factory.mktemp("small"), [*CATEGORIES, "dog"]),
        "small",
    )
    return folder


@pytest.fixture
def repository(tmp_path, shipped):
    return Repository(tmp_path / "models", [shipped])


@pytest.fixture
def loader():
    models = ModelSettings(cache_path=EXPORTS)
    return Loader(Decoder(LIMITS), InferenceSettings(max_micro_batch_size=2), models)


@pytest.fixture
def device():
    return Device()


@pytest.fixture
async def make(device):
    """Creates micro-batchers for one device, and stops them after the test."""
    made = []

    def make(**changes):
        made.append(batcher_of(device, **changes))
        return made[-1]

    yield make
    device.free.set()
    for batcher in made:
        await batcher.stop()


def add(repository, source, name="tiny", **labels):
    with repository.incoming() as incoming:
        manifest = copy_model(source, incoming, Labels(name, repository.latest(name) + 1, **labels))
        return repository.publish(incoming, manifest)


@pytest.fixture
def twofold(tmp_path, tiny):
    """Model `small`, whose version 2 answers only as `fast`, and the alias of an absent model."""
    shipped = tmp_path / "shipped"
    for _ in range(2):
        add(Repository(shipped), tiny, "small")
    return Repository(tmp_path / "models", [shipped], {"small": {"fast": 2}, "absent": {"fast": 2}})


@pytest.fixture
def source(tiny, tmp_path):
    """A copy of the tiny model, to be changed."""
    shutil.copytree(tiny, tmp_path / "source")
    return tmp_path / "source"
