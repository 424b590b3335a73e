"""What all tests share: a clean environment, and where photographs and trained models are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_categorizer_server.settings import TEST_DATA, variable_names

# Exports to ONNX take seconds each and depend on nothing but the model's files.
EXPORTS = Path(__file__).resolve().parent.parent / ".build" / "exports"
# What a busy machine may add to a deadline.  Speed is judged where it is measured: by `make bench`.
SLACK_S = 10.0
GIVEN_TEST_DATA = os.environ.get(TEST_DATA)


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """Hides the settings of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in variable_names().values():
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with photographs and models that may not be part of the project."""
    if not GIVEN_TEST_DATA:
        pytest.skip(f"{TEST_DATA} is not set: photographs and trained models are not at hand")
    return Path(GIVEN_TEST_DATA).resolve()
