"""What `tests/gpu/run.sh` measures, with a CPU and tiny settings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.measure import PARTS, arguments, measured, page

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(240)
TINY = [
    *("--device", "cpu", "--networks", "efficientnet_lite0", "--sizes", "1", "2"),
    *("--side-px", "32", "--processes", "1", "--seconds", "0.3"),
]


def run(out: Path, *words: str) -> tuple[int, dict[str, dict[str, object]]]:
    command = [sys.executable, "-m", "tests.gpu.measure", str(out), *TINY, *words]
    status = subprocess.run(command, cwd=ROOT, check=False, timeout=200).returncode
    return status, json.loads((out / "gpu.json").read_text())


@pytest.mark.slow
def test_networks_and_decoding_are_measured_with_a_profile_and_a_table(tmp_path):
    status, figures = run(tmp_path, "--parts", "forward", "decode")
    assert status == 0
    forward, decode = figures["forward"]["rows"], figures["decode"]["rows"]
    assert [row["size"] for row in forward] == [1, 2]
    assert all(row["runtime_images_per_s"] > 0 for row in forward)
    assert decode[0]["images_per_s"] > 0
    table = (tmp_path / "gpu.md").read_text()
    assert f"| 1 processes | {decode[0]['images_per_s']} |" in table
    assert "conv" in (tmp_path / "profile-efficientnet_lite0.txt").read_text()
    assert json.loads((tmp_path / "profile-efficientnet_lite0.json").read_text())["traceEvents"]


@pytest.mark.slow
def test_the_server_is_measured_with_a_model_process(tmp_path):
    status, figures = run(tmp_path, "--parts", "served")
    assert status == 0, (tmp_path / "served.log").read_text()
    rows = figures["served"]["rows"]
    assert [row["model"] for row in rows] == ["mobilenet_v2", "null"]
    assert rows[1]["images_per_s"] > rows[0]["images_per_s"] > 0


@pytest.mark.slow
def test_a_part_that_fails_or_takes_too_long_loses_no_others_figures(tmp_path):
    status, figures = run(
        tmp_path, "--networks", "efficientnet_lite0", "--sizes", "0", "--parts", "forward", "decode"
    )
    assert status == 1
    assert figures["forward"]["missing"]
    assert figures["decode"]["rows"]
    words = [str(tmp_path), *TINY, "--seconds", "8", "--processes", "1", "1", "1", "1"]
    late = measured("decode", words, 25.0, tmp_path)
    assert late["missing"] == "it took longer than 25 s"
    assert 1 <= len(late["rows"]) < 4
    shown = page({"decode": late})
    assert "Not complete: it took longer than 25 s" in shown
    assert f"| 1 processes | {late['rows'][0]['images_per_s']} |" in shown


def test_a_run_ends_within_eight_minutes():
    assert sum(PARTS.values()) <= 480
    assert set(arguments(["out"]).parts) == set(PARTS)
