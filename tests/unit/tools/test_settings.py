"""The generated lists of settings: complete, current, and true about the defaults."""

import re
import subprocess
import sys
from pathlib import Path

from image_categorizer_server.settings import load_settings, variable_names

ROOT = Path(__file__).resolve().parents[3]


def test_both_lists_are_current():
    subprocess.run([sys.executable, ROOT / "tools" / "settings.py", "--check"], check=True)


def test_the_example_lists_every_setting_with_its_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # neither the project's .env nor its .data apply
    listed = dict(
        line.removeprefix("# ").split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line.startswith("# ") and "=" in line and line[2:].split("=")[0].isupper()
    )
    assert set(listed) == set(variable_names().values())
    for name in listed:
        monkeypatch.delenv(name, raising=False)
    defaults = load_settings()
    for name, value in listed.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == defaults


def test_the_page_lists_every_setting_once():
    rows = re.findall(
        r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted(variable_names().values())
