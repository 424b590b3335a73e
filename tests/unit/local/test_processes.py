"""Server processes and the port they share."""

import os
import socket

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.processes import (
    has_several_processes,
    model_processes,
    reserved,
    server_names,
    server_process,
    worker_process,
)
from image_categorizer_server.settings import load_settings
from pytest_socket import enable_socket


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load_settings


def test_one_server_has_no_number(settings):
    assert server_names(settings()) == ["server"]
    assert server_names(settings(server={"processes": 2})) == ["server-1", "server-2"]


def test_several_servers_share_the_cores(settings):
    lone = server_process("server", "unix:/s", settings(), {"A": "b"})
    assert lone.environment["A"] == "b"
    assert "CATEGORIZER_INFERENCE__CORES" not in lone.environment
    shared = settings(server={"processes": 2}, inference={"cores": 3})
    of_two = server_process("server-1", "unix:/s", shared, {})
    assert of_two.environment["CATEGORIZER_INFERENCE__CORES"] == "3"
    assert of_two.command[-1] == "--one-of-many"


async def test_a_worker_is_ready_once_its_file_exists(settings, tmp_path):
    alive = tmp_path / "alive"
    alive.touch()  # of an earlier run
    process = worker_process("worker", alive, settings(), {})
    assert not await process.is_ready()
    alive.touch()
    assert await process.is_ready()
    assert process.environment["CATEGORIZER_WORKER__ALIVE_PATH"] == str(alive)


def test_a_unix_socket_cannot_be_shared():
    with pytest.raises(OperatorError, match="unix:/s"), reserved("unix:/s"):
        pass


def test_port_0_is_chosen_once_for_all():
    enable_socket()
    with reserved("127.0.0.1:0") as address:
        port = int(address.rpartition(":")[2])
        assert port > 0
        with pytest.raises(OperatorError, match=str(port)), reserved(address):
            pass


def test_without_a_model_process_servers_run_their_models(settings, tmp_path):
    assert model_processes(tmp_path / "s", settings(), {}) == ([], {})
    assert not has_several_processes(settings())


def test_a_model_process_listens_where_its_servers_ask_for_models(settings, tmp_path):
    with_models = settings(server={"model_process": True})
    (process,), variables = model_processes(tmp_path / "s", with_models, {"A": "b"})
    assert variables == {"CATEGORIZER_INFERENCE__MODEL_SOCKET": str(tmp_path / "s")}
    assert process.environment == {**os.environ, "A": "b", **variables}
    # One server process has a supervisor too: it is not the one to start the other.
    assert has_several_processes(with_models)
    assert server_process("server", "unix:/s", with_models, {}).command[-1] == "--one-of-many"


async def test_a_model_process_is_ready_once_it_listens(settings, tmp_path):
    path = tmp_path / "s"
    (process,), _ = model_processes(path, settings(server={"model_process": True}), {})
    assert not await process.is_ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        assert not await process.is_ready()
        listener.listen()
        assert await process.is_ready()
