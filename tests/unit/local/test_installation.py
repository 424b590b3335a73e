"""The data folder, and how commands find it."""

import os
import stat

import pytest
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.installation import Addresses, Installation, settings_for


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """Hides the project's .env and .data."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def installation(tmp_path):
    prepared = Installation(tmp_path / "data")
    prepared.prepare()
    return prepared


def test_data_wins_over_the_environment_and_that_over_the_default(tmp_path, monkeypatch):
    written = Addresses(
        base_url="http://localhost:1",
        database_url="postgres://embedded/d",
        redis_url="unix:///r",
        model_path=tmp_path / "m",
    )
    for data in (tmp_path / "mine", tmp_path / ".data"):
        installation = Installation(data)
        installation.prepare()
        installation.write_addresses(written)
    assert settings_for(None).database_url == "postgres://embedded/d"
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere/d")
    assert settings_for(None).database_url == "postgres://elsewhere/d"
    assert settings_for(tmp_path / "mine").database_url == "postgres://embedded/d"
    assert settings_for(tmp_path / "mine").model_path == tmp_path / "m"


def test_before_the_first_up_models_go_where_up_will_look(tmp_path, monkeypatch):
    assert settings_for(None).model_path == tmp_path / ".data" / "models"
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "own"))
    assert settings_for(None).model_path == tmp_path / "own"
    assert Installation(tmp_path / ".data").model_path == tmp_path / "own"


def test_damaged_addresses_say_how_to_go_on(tmp_path):
    Installation(tmp_path).prepare()
    (tmp_path / "installation.json").write_text("{")
    with pytest.raises(OperatorError, match="Start `image-categorizer up` again"):
        Installation(tmp_path).addresses()


def test_a_second_up_is_refused_until_the_first_has_ended(installation):
    with (
        installation.locked(),
        pytest.raises(OperatorError, match="Another `image-categorizer up` is running"),
        Installation(installation.data).locked(),
    ):
        pass
    with Installation(installation.data).locked():
        pass


def test_a_folder_that_cannot_be_created_names_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="Choose another folder with --data"):
        Installation(tmp_path / "file" / "data").prepare()


def test_a_socket_path_is_never_too_long(tmp_path):
    deep = Installation(tmp_path / ("d" * 60) / ("e" * 60))
    assert len(str(deep.sockets)) < 80
    assert deep.sockets != Installation(tmp_path / ("d" * 60) / ("f" * 60)).sockets
    assert str(os.geteuid()) in deep.sockets.name


def modes(folder):
    """Returns the modes of a folder and of all that is in it, by name."""
    return {p.name: stat.S_IMODE(p.lstat().st_mode) for p in (folder, *folder.rglob("*"))}


def test_only_the_owner_reads_the_data_folder(installation):
    assert set(modes(installation.data).values()) == {0o700}


def test_what_an_earlier_release_left_open_is_closed_at_the_start(tmp_path):
    data = tmp_path / "data"
    (data / "images" / "t1").mkdir(parents=True)
    (data / "images" / "t1" / "photo").write_bytes(b"x")
    (data / "operator.key").write_text("ic_secret")
    for path in (data, *data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o664)
    Installation(data).prepare()
    found = modes(data)
    assert (found.pop("photo"), found.pop("operator.key")) == (0o600, 0o600)
    assert set(found.values()) == {0o700}


def test_files_of_others_in_the_data_folder_are_left_as_they_are(tmp_path):
    data = tmp_path / "data"
    (data / "logs").mkdir(parents=True)
    (data / "theirs.txt").write_text("hello")
    for path, mode in ((data, 0o755), (data / "logs", 0o755), (data / "theirs.txt", 0o644)):
        path.chmod(mode)
    Installation(data).prepare()
    found = modes(data)
    assert (found["data"], found["theirs.txt"], found["logs"]) == (0o755, 0o644, 0o700)


def test_a_link_in_place_of_the_socket_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deep = Installation(tmp_path / ("d" * 60) / ("e" * 60))
    (tmp_path / "elsewhere").mkdir()
    deep.sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OperatorError, match="belongs to another user"):
        deep.prepare()


@pytest.mark.parametrize(
    ("role", "name"),
    [(Role.CLASSIFIER, "client.key"), (Role.OPERATOR, "operator.key"), (Role.WORKER, "worker.key")],
)
def test_a_saved_key_is_for_the_owner_only(installation, role, name):
    assert installation.saved_key(role) is None
    installation.save_key(role, "ic_secret")
    assert installation.saved_key(role) == "ic_secret"
    assert stat.S_IMODE((installation.data / name).stat().st_mode) == 0o600
