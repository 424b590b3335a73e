"""Prometheus, if this machine has it, and what our alerts and dashboards ask of it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
UNPACKED = ROOT / ".build" / "prometheus" / "usr" / "bin"
METRIC = re.compile(r"\b(?:categorizer|process)_[a-z0-9_]+\b")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def program(name: str) -> str:
    """Returns the path of `prometheus` or `promtool`; skips the test without it."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        pytest.skip(f"needs {name}: apt-get install prometheus")
    return found


def rules(kind: str) -> list[dict[str, Any]]:
    """Returns our rules of a kind: `alert` or `record`."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def queries() -> list[str]:
    """Returns all PromQL of rules and dashboards."""
    found = [rule["expr"] for kind in ("alert", "record") for rule in rules(kind)]
    for file in sorted(DASHBOARDS.glob("*.json")):
        panels = json.loads(file.read_text())["panels"]
        found += [target["expr"] for panel in panels for target in panel["targets"]]
    return found


def metrics_of(query: str) -> set[str]:
    """Returns the metrics that a query names, without the endings of histograms."""
    return {SUFFIX.sub("", name) for name in METRIC.findall(query)}
