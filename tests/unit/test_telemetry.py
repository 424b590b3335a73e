"""Logs, request ids and trace ids."""

import json
import logging
import warnings

import pytest
from image_categorizer_server.telemetry.log import (
    FOREIGN_LINES,
    OWN,
    configure_logging,
    get_log,
    request_id_of,
    trace_id_of,
    without_secrets,
)

KEY = "ic_Yx5tOfdexJE24yI3JJSOZRIPmVkXfO275Cky5dxoGfueuNld2"


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


@pytest.fixture
def restored():
    """Gives the logging of the process back as it was."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in OWN}
    level = root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, own_level in levels.items():
        logging.getLogger(name).setLevel(own_level)


@pytest.mark.usefixtures("restored")
def test_libraries_log_at_warning_at_the_least_also_when_we_log_more(capfd):
    configure_logging("DEBUG", "json")
    get_log("image_categorizer_server.part").debug("ours")
    logging.getLogger("library.part").info("theirs")
    logging.getLogger("library.part").warning("their warning")
    logged = capfd.readouterr().err
    assert "ours" in logged
    assert "their warning" in logged
    assert "theirs" not in logged


@pytest.mark.usefixtures("restored")
def test_a_library_that_logs_much_is_held_back_and_its_lines_are_short(capfd):
    configure_logging("INFO", "json")
    for number in range(1000):
        logging.getLogger("library.part").error("line %d %s", number, "x" * 10_000)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"{number}", stacklevel=1)
    logging.getLogger("other").error("another library")
    get_log("image_categorizer_workers.part").info("ours")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 * FOREIGN_LINES + 2
    assert max(map(len, lines)) < 1000
    assert "another library" in lines[-2]
    assert "ours" in lines[-1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"there is no model '{KEY}'", "there is no model 'ic_[hidden]'"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw+/8=", "whsec_[hidden]"),
        ("Bearer eyJhbGciOiJSUzI1NiJ9abc.eyJzdWIiOiJhIn0.c2ln", "Bearer eyJ[hidden]"),
        ("postgres://user:s3/cr:et@host/db", "postgres://[hidden]@host/db"),
        ("redis://:s3cret@host:6379/0", "redis://[hidden]@host:6379/0"),
        ("https://host/a@b", "https://host/a@b"),
        ("send 'authorization: Bearer ic_...'", "send 'authorization: Bearer ic_...'"),
        ("panic_attack_and_more_words_of_it", "panic_attack_and_more_words_of_it"),
        ("https://host:443/a and b@c", "https://host:443/a and b@c"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_line_of_ours_or_of_a_library_shows_a_secret(capfd, log_format):
    configure_logging("INFO", log_format)
    get_log("image_categorizer_server.a").info("refused", message=f"no model {KEY}")
    logging.getLogger("library").warning("cannot reach %s", "redis://:s3cret@host")
    try:
        int(KEY)
    except ValueError:
        get_log("image_categorizer_server.a").exception("failed")
    written = capfd.readouterr().err
    assert written.count("[hidden]") >= 3
    assert KEY not in written
    assert "s3cret" not in written


@pytest.mark.usefixtures("restored")
def test_a_flood_of_refusals_writes_few_lines_which_count_the_others(capfd, monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(
        "image_categorizer_server.telemetry.refusals.time.monotonic", lambda: seconds[0]
    )
    configure_logging("INFO", "json", refusals_per_s=2)
    log = get_log("image_categorizer_server.a")
    for seconds[0] in (0.0, 0.3, 0.6, 0.9, 1.0):
        log.info("refused", reason="OVERLOADED")
        log.info("another line")
    log.info("refused", reason="MODEL_NOT_FOUND")
    written = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    refused = [line for line in written if line["event"] == "refused"]
    assert [line.get("not_logged") for line in refused] == [None, None, 2, None]
    assert len(written) - len(refused) == 5
