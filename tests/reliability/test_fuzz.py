"""Damaged images are decoded or refused, in bounded time and memory, and nothing else happens."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("runs", "seed"), [(10_000, 1), pytest.param(100_000, 2, marks=pytest.mark.slow)]
)
def test_damaged_images_are_decoded_or_refused_and_nothing_else(runs, seed):
    words = [sys.executable, "-m", "tests.support.fuzz", str(runs), str(seed)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    print(f"\n{reported}")
    assert reported["seeds"] >= 40
    assert sum(reported["outcomes"].values()) == runs
    assert reported["undeclared"] == []
    assert reported["slowest_s"] <= 5
    assert reported["grown_mb"] <= 50
    # Neither all refused nor all as good as new: the damage reaches what it is to test.
    assert 0.02 < reported["outcomes"]["decoded"] / runs < 0.9
