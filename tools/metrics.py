"""Writes `docs/metrics.md`; `--check` fails if it is stale."""

from pathlib import Path

from generated_page import write_or_check
from image_categorizer_server.telemetry import metrics
from prometheus_client.metrics import MetricWrapperBase

PAGE = Path("docs/metrics.md")
HEAD = """\
# Metrics

<!-- Generated from telemetry/metrics.py by tools/metrics.py; do not edit. -->

What servers and workers answer at `/metrics`: see [Operations](operations.md#metrics). Times are
in seconds. Beside these stand `process_*`: memory, CPU time, start time and file descriptors.

| Name | Type | Labels | Meaning |
|---|---|---|---|
"""


def page() -> str:
    """Returns the page, in Markdown."""
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return HEAD + "".join(sorted(map(_row, found)))


def _row(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = ", ".join(f"`{name}`" for name in metric._labelnames)  # noqa: SLF001 - not offered otherwise
    return f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |\n"


if __name__ == "__main__":
    write_or_check(PAGE, page(), __doc__)
