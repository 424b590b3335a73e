"""Alerts and dashboards: they name metrics that exist, and every alert has a test and a runbook."""

import re
import subprocess

import pytest
import yaml

from tests.support.prometheus import FOLDER, ROOT, metrics_of, program, queries, rules

ALERTS = [rule["alert"] for rule in rules("alert")]
TESTS = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]
# That of the library, which the page names together.
PROCESS = re.compile(r"process_(cpu_seconds_total|resident_memory_bytes)")


def test_every_metric_of_an_alert_or_a_dashboard_is_documented():
    documented = set(
        re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    )
    named = set().union(*map(metrics_of, queries()))
    unknown = {name for name in named - documented if not PROCESS.fullmatch(name)}
    assert len(named) > 20
    assert unknown == set()


def test_every_alert_has_a_runbook_to_which_it_refers():
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)
    assert headings == ALERTS
    for rule in rules("alert"):
        annotations = rule["annotations"]
        assert annotations["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_firing_and_quiet(alert):
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    fires = [bool(case.get("exp_alerts")) for case in cases if case["alertname"] == alert]
    assert set(fires) == {True, False}


def test_promtool_accepts_the_rules_and_their_tests():
    promtool = program("promtool")
    for words in (
        ["check", "config", "prometheus.yaml"],
        ["check", "rules", "--lint-fatal", "alerts.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ):
        done = subprocess.run(
            [promtool, *words], cwd=FOLDER, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
