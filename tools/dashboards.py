"""Writes the Grafana dashboards of `deploy/grafana`; `--check` fails if one is stale."""

import json
from dataclasses import dataclass
from pathlib import Path

from generated_page import write_or_check

FOLDER = Path("deploy/grafana/dashboards")
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, PER_ROW = 8, 8, 3
FAULTS = 'code=~"UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS"'
UNARY = 'method=~".*ClassifyService/Classify(Upload)?"'


@dataclass(frozen=True)
class Panel:
    """One graph."""

    title: str
    unit: str
    """A unit of Grafana, such as `s` or `reqps`."""
    queries: dict[str, str]
    """PromQL by legend; `{{label}}` in a legend stands for a label."""
    description: str = ""
    is_number: bool = False
    """Whether it shows the newest value instead of a graph."""


def quantiles(metric: str, by: str = "", selector: str = "") -> dict[str, str]:
    """Returns the median and the 95th and 99th percentiles of a histogram."""
    labels = f"le, {by}" if by else "le"
    rate = f"sum by ({labels}) (rate({metric}_bucket{{{selector}}}[$__rate_interval]))"
    suffix = f" {{{{{by}}}}}" if by else ""
    return {
        f"{name}{suffix}": f"histogram_quantile({share}, {rate})"
        for name, share in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
    }


def rate(metric: str, by: str, selector: str = "") -> dict[str, str]:
    """Returns the rate of a counter by one label."""
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"}


DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "overview": (
        "Image Categorizer: overview",
        [
            Panel(
                "Images per second",
                "reqps",
                {"images": 'sum(rate(categorizer_images_total{outcome="OK"}[$__rate_interval]))'},
                is_number=True,
            ),
            Panel(
                "Calls that fail by our fault",
                "percentunit",
                {
                    "share": f"sum(rate(categorizer_calls_total{{{FAULTS}}}[$__rate_interval]))"
                    " / sum(rate(categorizer_calls_total[$__rate_interval])) or vector(0)"
                },
                "The objective is 0.1 % over 30 days.",
                is_number=True,
            ),
            Panel(
                "Images answered within 2 s",
                "percentunit",
                {
                    "share": "sum(rate(categorizer_call_duration_seconds_bucket"
                    f'{{{UNARY},le="2.0"}}[$__rate_interval])) / sum(rate('
                    f"categorizer_call_duration_seconds_count{{{UNARY}}}[$__rate_interval]))"
                },
                "Of single requests. The objective is 99 % over 30 days.",
                is_number=True,
            ),
            Panel("Calls by status", "reqps", rate("categorizer_calls_total", "code")),
            Panel(
                "Duration of classifications",
                "s",
                quantiles("categorizer_call_duration_seconds", selector=UNARY),
            ),
            Panel("Errors by reason", "reqps", rate("categorizer_errors_total", "reason")),
            Panel("Calls in progress", "short", {"{{instance}}": "categorizer_in_flight"}),
            Panel(
                "Work that waits",
                "short",
                {"{{kind}}": "max by (kind) (categorizer_pending)"},
                "Chunks of batches, messages of the outbox, deliveries of webhooks.",
            ),
            Panel(
                "Processor",
                "short",
                {"{{instance}}": "rate(process_cpu_seconds_total[$__rate_interval])"},
                "Cores in use.",
            ),
            Panel("Memory", "bytes", {"{{instance}}": "process_resident_memory_bytes"}),
            Panel(
                "Free space for images",
                "percentunit",
                {"{{instance}}": "categorizer_data_free_bytes / categorizer_data_size_bytes"},
            ),
            Panel(
                "Release", "short", {"{{release}}": "count by (release) (categorizer_build_info)"}
            ),
        ],
    ),
    "engine": (
        "Image Categorizer: engine",
        [
            Panel("Images by outcome", "reqps", rate("categorizer_images_total", "outcome")),
            Panel("Images by model", "reqps", rate("categorizer_images_total", "model")),
            Panel("Dropped images", "reqps", rate("categorizer_dropped_images_total", "stage")),
            Panel(
                "Wait for decoder and micro-batch",
                "s",
                quantiles("categorizer_queue_duration_seconds", "model"),
            ),
            Panel(
                "Decoding and preprocessing",
                "s",
                quantiles("categorizer_decode_duration_seconds", "model"),
            ),
            Panel(
                "Inference of a micro-batch",
                "s",
                quantiles("categorizer_inference_duration_seconds", "model"),
            ),
            Panel(
                "Images in a micro-batch",
                "short",
                {
                    "mean {{model}}": "sum by (model) (rate("
                    "categorizer_micro_batch_images_sum[$__rate_interval])) / sum by (model) ("
                    "rate(categorizer_micro_batch_images_count[$__rate_interval]))"
                },
            ),
            Panel(
                "What closes micro-batches",
                "reqps",
                rate("categorizer_executions_total", "close_reason"),
            ),
            Panel(
                "Images in the micro-batcher",
                "short",
                {"{{model}} {{version}}": "sum by (model, version) (categorizer_queue_depth)"},
            ),
            Panel("Result cache", "reqps", rate("categorizer_cache_lookups_total", "outcome")),
            Panel(
                "Delay of the event loop",
                "s",
                quantiles("categorizer_event_loop_lag_seconds", "instance"),
            ),
            Panel("Tasks", "short", {"{{instance}}": "categorizer_tasks"}),
        ],
    ),
    "batches": (
        "Image Categorizer: batches and webhooks",
        [
            Panel(
                "Chunks that wait or run",
                "short",
                {"chunks": 'max(categorizer_pending{kind="chunks"})'},
            ),
            Panel("Items by outcome", "reqps", rate("categorizer_batch_items_total", "outcome")),
            Panel("Items by worker", "reqps", rate("categorizer_batch_items_total", "instance")),
            Panel(
                "Attempts of webhooks",
                "reqps",
                rate("categorizer_webhook_attempts_total", "outcome"),
            ),
            Panel(
                "Webhooks given up, of the last day",
                "short",
                {"given up": "sum(increase(categorizer_webhooks_given_up_total[1d]))"},
                is_number=True,
            ),
            Panel(
                "Messages and deliveries that wait",
                "short",
                {"{{kind}}": 'max by (kind) (categorizer_pending{kind!="chunks"})'},
            ),
        ],
    ),
    "access": (
        "Image Categorizer: access and limits",
        [
            Panel(
                "Refused credentials and rights",
                "reqps",
                rate(
                    "categorizer_calls_total", "code", 'code=~"UNAUTHENTICATED|PERMISSION_DENIED"'
                ),
            ),
            Panel(
                "Refused by limits",
                "reqps",
                rate("categorizer_errors_total", "reason", 'reason=~"RATE_LIMITED|QUOTA_EXCEEDED"'),
            ),
            Panel("Calls by method", "reqps", rate("categorizer_calls_total", "method")),
            Panel(
                "Database connections in use",
                "short",
                {"{{instance}}": "categorizer_db_pool_in_use"},
            ),
            Panel("Open file descriptors", "short", {"{{instance}}": "categorizer_open_fds"}),
            Panel(
                "Certificates expire in",
                "s",
                {
                    "{{certificate}}": "min by (certificate) ("
                    "categorizer_certificate_expiry_timestamp_seconds) - time()"
                },
            ),
        ],
    ),
    "drift": (
        "Image Categorizer: drift",
        [
            Panel(
                "Drift of all tenants together",
                "short",
                {
                    "{{model}} {{version}} {{kind}}": "max by (model, version, kind) ("
                    'categorizer_prediction_drift_psi{tenant=""})'
                },
                "Below 0.1 little has changed, from 0.25 on a lot.",
            ),
            Panel(
                "Drift of single tenants",
                "short",
                {
                    "{{tenant}} {{model}} {{kind}}": "topk(10, max by (tenant, model, kind) ("
                    'categorizer_prediction_drift_psi{tenant!=""}))'
                },
            ),
            Panel("Images by version", "reqps", rate("categorizer_images_total", "version")),
        ],
    ),
}


def dashboard(uid: str) -> dict[str, object]:
    """Returns one dashboard, as Grafana reads it."""
    title, panels = DASHBOARDS[uid]
    return {
        "uid": f"image-categorizer-{uid}",
        "title": title,
        "tags": ["image-categorizer"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, object]:
    row, column = divmod(number, PER_ROW)
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.description,
        "type": "stat" if panel.is_number else "timeseries",
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + n), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for n, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    for uid in DASHBOARDS:
        text = json.dumps(dashboard(uid), indent=1) + "\n"
        write_or_check(FOLDER / f"{uid}.json", text, __doc__)
