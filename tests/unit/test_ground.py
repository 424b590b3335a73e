"""Settings and logs."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings, variable_names
from image_categorizer_server.telemetry import (
    configure_logging,
    get_log,
    request_id_of,
    trace_id_of,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs in an empty folder: neither the project's .env nor its .data are in force."""
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
    with pytest.raises(ValueError, match="frozen"):
        settings.server.drain_s = 1


def test_secrets_are_not_shown():
    text = repr(load_settings(DATABASE_URL="postgres://u:secret@h/d", client={"api_key": "ic_x"}))
    assert "secret" not in text
    assert "ic_x" not in text


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("abc-1.2:3_4", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("", False),
        (None, False),
    ],
)
def test_request_ids_are_kept_where_well_formed(header, kept):
    assert (request_id_of(header) == header) is kept
    assert request_id_of(header)


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", "a" * 32),
        (f"00-{'0' * 32}-{'b' * 16}-01", ""),
        (f"00-{'a' * 32}-{'0' * 16}-01", ""),
        (f"00-{'A' * 32}-{'b' * 16}-01", ""),
        ("nonsense", ""),
        (None, ""),
    ],
)
def test_trace_ids_follow_the_w3c_form(header, trace):
    assert trace_id_of(header) == trace


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_exception_shows_no_local_variables(capfd, log_format):
    configure_logging("INFO", log_format)

    def fail(key):
        raise ValueError(f"{len(key)} characters")

    try:
        fail("ic_" + "secret")
    except ValueError:
        get_log("test").exception("a bug")
    logged = capfd.readouterr().err
    assert "9 characters" in logged
    assert "ic_secret" not in logged
