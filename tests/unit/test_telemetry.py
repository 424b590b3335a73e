"""Logs, request ids and trace ids."""

import logging
import warnings

import pytest
from image_categorizer_server.telemetry import (
    FOREIGN_LINES,
    OWN,
    configure_logging,
    get_log,
    request_id_of,
    trace_id_of,
)


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
