"""Unit tests reach no network; models for those that need one."""

import pytest
from image_categorizer_server.inference.importer import Labels, copy_model
from image_categorizer_server.inference.repository import Repository
from pytest_socket import disable_socket, enable_socket

from tests.tiny_model import write_tiny_model


@pytest.fixture(autouse=True)
def no_network():
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


CATEGORIES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), CATEGORIES)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "models")


def add(repository, source, name="tiny", **labels):
    with repository.incoming() as incoming:
        manifest = copy_model(source, incoming, Labels(name, repository.latest(name) + 1, **labels))
        return repository.publish(incoming, manifest)
