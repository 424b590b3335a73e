"""Hooks for tests."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class TestSettings(Group):
    """Hooks for tests; all off by default, and refused in production."""

    __test__ = False  # no test class, whatever its name

    fake_model: str = Field(
        "",
        description="'<ms per micro-batch>,<ms per item>': serves a model fake, of ten categories.",
    )
    trace: str = Field("", description="File that gets a JSON line for each step of each image.")
    failpoint: str = Field(
        "", description="'<name>:<n>': the process kills itself at the n-th pass of that point."
    )
    clock_offset_s: float = Field(
        0.0, ge=-1e9, le=1e9, description="Seconds by which the clock is ahead of the system's."
    )
