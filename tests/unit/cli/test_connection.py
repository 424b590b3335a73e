"""Which server a command connects to, and with which key."""

import pytest
from image_categorizer import Tls
from image_categorizer_server.cli.connection import client_of, server_of
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import Addresses, Installation


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A local installation in the default folder, without a key yet."""
    monkeypatch.chdir(tmp_path)
    prepared = Installation(tmp_path / ".data")
    prepared.prepare()
    addresses = Addresses(
        base_url="http://localhost:8080",
        database_url=f"postgres://postgres@/nowhere?host={tmp_path}",
        redis_url="unix:///nowhere",
        model_path=tmp_path / "models",
    )
    prepared.write_addresses(addresses)
    return prepared


def test_without_a_server_the_error_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OperatorError, match=r"image-categorizer up.*CATEGORIZER_CLIENT__BASE_URL"):
        server_of(None)


def test_a_local_installation_is_called_with_its_saved_key(installation):
    installation.save_key(Role.CLASSIFIER, "ic_own")
    assert server_of(None)[:2] == ("http://localhost:8080", "ic_own")
    assert server_of(None).tls is None
    assert server_of(installation.data)[:2] == ("http://localhost:8080", "ic_own")


def test_each_role_has_its_own_key(installation):
    installation.save_key(Role.CLASSIFIER, "ic_classifier")
    installation.save_key(Role.OPERATOR, "ic_operator")
    assert server_of(None, Role.OPERATOR)[1] == "ic_operator"


def test_the_environment_wins_over_the_installation(installation, monkeypatch):
    installation.save_key(Role.CLASSIFIER, "ic_own")
    monkeypatch.setenv("CATEGORIZER_CLIENT__API_KEY", "ic_given")
    assert server_of(None)[:2] == ("http://localhost:8080", "ic_given")
    monkeypatch.setenv("CATEGORIZER_CLIENT__BASE_URL", "api.example")
    assert server_of(None)[:2] == ("api.example", "ic_given")


def test_certificates_come_from_the_installation_or_the_environment(installation, monkeypatch):
    installation.save_key(Role.CLASSIFIER, "ic_own")
    found = installation.addresses()
    update = {"root_certificates_path": "/own/ca.pem", "server_name": "own.example"}
    installation.write_addresses(found.model_copy(update=update))
    assert server_of(None).tls == Tls(root_certificates="/own/ca.pem", server_name="own.example")
    monkeypatch.setenv("CATEGORIZER_CLIENT__BASE_URL", "api.example")
    assert server_of(None).tls is None
    monkeypatch.setenv("CATEGORIZER_CLIENT__ROOT_CERTIFICATES_PATH", "/given/ca.pem")
    assert server_of(None).tls == Tls(root_certificates="/given/ca.pem")


def test_a_server_that_does_not_answer_is_an_operator_error(monkeypatch, tmp_path):
    monkeypatch.setenv("CATEGORIZER_CLIENT__BASE_URL", f"unix:{tmp_path}/none.sock")
    monkeypatch.setenv("CATEGORIZER_CLIENT__API_KEY", "ic_x")
    with pytest.raises(OperatorError), client_of(None) as client:
        client.batches.get("b-1")
