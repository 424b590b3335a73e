"""Logs, request ids and trace ids."""

import pytest
from image_categorizer_server.telemetry import (
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
