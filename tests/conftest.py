"""Shared by all tests: a clean environment, and the folder of photographs and models."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_categorizer_server.settings import TEST_DATA, variable_names
from image_categorizer_server.telemetry import configure_logging

# An export to ONNX takes seconds and depends only on the files of the model.
EXPORTS = Path(__file__).resolve().parent.parent / ".build" / "exports"
# Added to deadlines, for a busy machine. `make bench` measures speed, tests do not.
SLACK_S = 10.0
FAST_VERSION = "CATEGORIZER_MODELS__PACKAGED_FAST"
"""The variable that says whether the packaged model has an int8 version."""
GIVEN_TEST_DATA = os.environ.get(TEST_DATA)


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """Hides settings in the environment of the person who runs the tests.

    Servers make no int8 version in the background: that takes seconds of a core, and whether they
    have one depends on the processor.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in variable_names().values():
            patch.delenv(name, raising=False)
        patch.setenv(FAST_VERSION, "false")
        yield


@pytest.fixture(autouse=True, scope="session")
def logging_of_an_entry_point() -> None:
    """Sends our lines through the standard library, where `caplog` finds them.

    structlog remembers its first settings, so a test that logs before would change the others.
    """
    configure_logging("INFO", "json")


@pytest.fixture(autouse=True, scope="session")
def interruptible_children() -> None:
    """Lets Ctrl-C reach child processes.

    A shell script ignores SIGINT in what it runs in the background, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of photographs and models that cannot be part of the project."""
    if not GIVEN_TEST_DATA:
        pytest.skip(f"{TEST_DATA} is not set: there are no photographs and trained models")
    return Path(GIVEN_TEST_DATA).resolve()
