"""Hooks for tests."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class TestSettings(Group):
    """Hooks for tests. All are off by default. Not for production."""

    __test__ = False  # pytest takes classes named Test... for tests

    fake_model: str = Field(
        "",
        description="'<ms per micro-batch>,<ms per item>': serves a fake model of ten categories.",
    )
    trace: str = Field("", description="File to write a JSON line to for each step of each image.")
    failpoint: str = Field(
        "", description="'<name>:<n>': kills the process at the n-th pass of the failpoint."
    )
    clock_offset_s: float = Field(
        0.0, ge=-1e9, le=1e9, description="Seconds to add to the system clock."
    )
