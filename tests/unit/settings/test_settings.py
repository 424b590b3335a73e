"""Settings: names, sources, immutability, secrets."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings, variable_names
from image_categorizer_server.settings.names import report_ignored


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
    loaded = load_settings()
    assert (loaded.max_image_size_mb, loaded.server.drain_s) == (4, 7)
    assert loaded.max_image_bytes == 4 * 2**20


def test_a_misspelt_name_in_the_file_stops_too(tmp_path):
    (tmp_path / ".env").write_text("CATEGORIZER_SERVER__DRIAN_S=7\n")
    with pytest.raises(OperatorError, match="CATEGORIZER_SERVER__DRAIN_S"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CATEGORIZER_SERVER__BLIND", "CATEGORIZER_SERVER__BIND"),
        ("CATEGORIZER_SERVER_BIND", "CATEGORIZER_SERVER__BIND"),
        ("categorizer_server__bnid", "CATEGORIZER_SERVER__BIND"),
        ("CATEGORIZER_LOG_FROMAT", "CATEGORIZER_LOG_FORMAT"),
        ("CATEGORIZER_LOG_LEVEL", "LOG_LEVEL"),
        ("CATEGORIZER_DATABASE_URL", "DATABASE_URL"),
        ("CATEGORIZER_SERVER__SOMETHING_ELSE", "CATEGORIZER_SERVER__SOMETHING_ELSE"),
        ("DATABASE_ULR", "DATABASE_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("REDDIS_URL", "REDIS_URL"),
    ],
)
def test_a_misspelt_setting_stops_the_start(monkeypatch, tmp_path, name, meant):
    monkeypatch.setenv(name, "x")
    with pytest.raises(OperatorError, match=meant):
        load_settings()
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=x\n")
    with pytest.raises(OperatorError, match=f"{name} is not a setting"):
        load_settings()


@pytest.mark.parametrize(
    "name",
    [
        "CATEGORIZER_PORT",  # these are what Kubernetes sets for a Service called `categorizer`
        "CATEGORIZER_SERVICE_HOST",
        "CATEGORIZER_SERVICE_PORT_HTTP",
        "CATEGORIZER_PORT_8080_TCP",
        "CATEGORIZER_PORT_8080_TCP_ADDR",
        "CATEGORIZER_SERVER_PORT",  # for one called `categorizer-server`
        "CATEGORIZER_GATEWAY_PORT_8080_TCP_PROTO",
        "CATEGORIZER_SERVER",  # pydantic-settings would read a group from it
        "CATEGORIZER_API_KEY",
        "CATEGORIZER_VERSION",
        "CATEGORIZER_OTHER__NAME",
        "DATABASE_URI",
        "REDIS_URI",
        "DATABASE_URLS",
        "LOGLEVEL",
    ],
)
def test_a_variable_of_another_program_has_no_effect_and_is_reported(
    monkeypatch, tmp_path, capfd, name
):
    usual = load_settings()
    monkeypatch.setenv(name, "tcp://10.0.0.1:8080")
    # The name is reported once in a process: other tests may have been before us.
    report_ignored.cache_clear()
    assert load_settings() == usual
    assert name in capfd.readouterr().err
    assert load_settings() == usual
    assert capfd.readouterr() == ("", "")
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=tcp://10.0.0.1:8080\n")
    assert load_settings() == usual


@pytest.mark.parametrize("name", ["VERBOSE", "PATH_MODEL", "PORT", "DB_URL"])
def test_a_variable_that_resembles_no_setting_is_not_mentioned(monkeypatch, capfd, name):
    monkeypatch.setenv(name, "x")
    load_settings()
    assert name not in capfd.readouterr().err


def test_a_file_that_is_not_text_is_refused_in_a_sentence(tmp_path):
    (tmp_path / ".env").write_bytes(b"MAX_IMAGE_SIZE=\xff\n")
    with pytest.raises(OperatorError, match="not UTF-8"):
        load_settings()


def test_settings_do_not_change():
    loaded = load_settings()
    for group in (loaded, loaded.server):
        for name in type(group).model_fields:
            with pytest.raises(ValueError, match="frozen"):
                setattr(group, name, None)


def test_secrets_are_not_shown():
    text = repr(load_settings(DATABASE_URL="postgres://u:pa55@h/d", client={"api_key": "ic_x"}))
    assert "pa55" not in text
    assert "ic_x" not in text
