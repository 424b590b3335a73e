"""Settings: names, sources, immutability, secrets."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings, variable_names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs in an empty folder, without the project's .env and .data."""
    monkeypatch.chdir(tmp_path)


def test_the_names_of_the_contract_are_kept():
    names = set(variable_names().values())
    assert {name for name in names if not name.startswith("CATEGORIZER_")} == {
        "CLOUD_PROVIDER",
        "DATABASE_URL",
        "LOG_LEVEL",
        "MAX_IMAGE_SIZE",
        "MODEL_PATH",
        "REDIS_URL",
        "STORAGE_BUCKET",
        "WORKER_COUNT",
    }


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("MAX_IMAGE_SIZE=3\nCATEGORIZER_SERVER__DRAIN_S=7\n")
    monkeypatch.setenv("MAX_IMAGE_SIZE", "4")
    settings = load_settings()
    assert (settings.max_image_size_mb, settings.server.drain_s) == (4, 7)
    assert settings.max_image_bytes == 4 * 2**20


def test_a_misspelt_name_in_the_file_stops_too(tmp_path):
    (tmp_path / ".env").write_text("CATEGORIZER_SERVER__DRIAN_S=7\n")
    with pytest.raises(OperatorError, match="CATEGORIZER_SERVER__DRAIN_S"):
        load_settings()


def test_settings_do_not_change():
    settings = load_settings()
    for group in (settings, settings.server):
        for name in type(group).model_fields:
            with pytest.raises(ValueError, match="frozen"):
                setattr(group, name, None)


def test_secrets_are_not_shown():
    text = repr(load_settings(DATABASE_URL="postgres://u:secret@h/d", client={"api_key": "ic_x"}))
    assert "secret" not in text
    assert "ic_x" not in text
