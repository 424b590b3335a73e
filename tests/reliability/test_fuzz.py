"""Damaged images are decoded or refused, in bounded time and memory."""

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
def test_damaged_images_are_decoded_or_refused(runs, seed):
    command = [sys.executable, "-m", "tests.support.fuzz", str(runs), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(f"\n{report}")
    assert report["seeds"] >= 40
    assert sum(report["outcomes"].values()) == runs
    assert report["undeclared"] == []
    assert report["slowest_s"] <= 5
    assert report["grown_mb"] <= 50
    # Some are decoded and some are refused: the damage reaches all stages.
    assert 0.02 < report["outcomes"]["decoded"] / runs < 0.9
