"""Failpoints: which there are, and that they kill when they should."""

import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from image_categorizer_server import clock, failpoints
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
PASSED = re.compile(r"\bhit\(\s*\"([^\"]+)\"")


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.arm("")
    clock.shift(0)


def test_every_point_of_the_list_is_passed_somewhere_and_every_one_passed_is_listed():
    files = [*ROOT.glob("server/**/*.py"), *ROOT.glob("workers/**/*.py")]
    passed = {name for file in files for name in PASSED.findall(file.read_text())}
    assert passed == set(failpoints.NAMES)
    assert len(passed) >= 12


def dies_at(armed: str, *passes: tuple[str, ...]) -> int:
    """Returns how many passes a process survives that is armed so; all, where it is not killed."""
    lines = "\n".join(f"hit(*{words!r}); print(flush=True)" for words in passes)
    code = f"from image_categorizer_server.failpoints import arm, hit\narm({armed!r})\n{lines}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    survived = done.stdout.count(b"\n")
    assert done.returncode == (0 if survived == len(passes) else -signal.SIGKILL), done.stderr
    return survived


@pytest.mark.parametrize(
    ("armed", "survived"),
    [
        ("", 4),
        ("chunk.claimed:1", 0),
        ("chunk.claimed:3", 3),
        ("relay.sent:1", 1),
        ("chunk.claimed:9,relay.sent:1", 1),
        ("image.read@a.png:1", 2),
        ("image.read@b.png:1", 4),
    ],
)
def test_the_process_dies_at_the_pass_that_was_asked_for(armed, survived):
    passes = [("chunk.claimed",), ("relay.sent",), ("image.read", "a.png"), ("chunk.claimed",)]
    if armed == "chunk.claimed:3":
        passes = [("chunk.claimed",)] * 2 + [("relay.sent",)] + [("chunk.claimed",)]
    assert dies_at(armed, *passes) == survived


@pytest.mark.parametrize("text", ["chunk.claimed", "chunk.claimed:0", "nowhere:1", "relay.sent:x"])
def test_a_malformed_failpoint_stops_the_start_in_one_sentence(text, monkeypatch):
    monkeypatch.setenv("CATEGORIZER_TEST__FAILPOINT", text)
    with pytest.raises(OperatorError, match="CATEGORIZER_TEST__FAILPOINT must be '<name>:<n>'"):
        load_settings()


def test_production_refuses_failpoints_and_a_shifted_clock(monkeypatch):
    monkeypatch.setenv("CATEGORIZER_ENVIRONMENT", "production")
    monkeypatch.setenv("CATEGORIZER_TEST__CLOCK_OFFSET_S", "5")
    with pytest.raises(OperatorError, match="refused"):
        load_settings()


def test_the_clock_is_shifted_by_its_setting(monkeypatch):
    monkeypatch.setenv("CATEGORIZER_TEST__CLOCK_OFFSET_S", "-3600")
    load_settings()
    assert abs(clock.now() - datetime.now(UTC) + timedelta(hours=1)) < timedelta(seconds=5)
