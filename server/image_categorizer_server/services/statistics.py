"""What this process counts, read from its metrics, for people who cannot reach `/metrics`."""

import secrets
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from image_categorizer_server import clock
from image_categorizer_server.db.outbox import count_pending
from image_categorizer_server.domain.statistics import (
    Distribution,
    ModelStatistics,
    PendingWork,
    ServerStatistics,
)
from image_categorizer_server.telemetry import metrics
from image_categorizer_server.version import VERSION

ProcessMetric = Counter | Gauge | Histogram
PROCESS_ID = secrets.token_hex(8)
START_TIME = clock.now()


async def read_statistics() -> ServerStatistics:
    """Returns what this process has counted; what is pending is that of the current tenant.

    Raises:
        DependencyDown: the database does not answer.
    """
    pending = await count_pending()
    return ServerStatistics(
        process_id=PROCESS_ID,
        release=VERSION,
        start_time=START_TIME,
        read_time=clock.now(),
        in_flight_count=int(sum(sample.value for sample in _samples(metrics.IN_FLIGHT))),
        calls={
            (sample.labels["method"], sample.labels["code"]): sample.value
            for sample in _counts(metrics.CALLS)
        },
        errors=_by_label(metrics.ERRORS, "reason"),
        cache_lookups=_by_label(metrics.CACHE_LOOKUPS, "outcome"),
        event_loop_lag_s=_distribution(_samples(metrics.LOOP_LAG)),
        models=_models(),
        pending=PendingWork(pending.chunks, pending.messages, pending.deliveries),
    )


def _models() -> tuple[ModelStatistics, ...]:
    """Returns the models that have seen an image, by name and version."""
    found: dict[tuple[str, str], ModelStatistics] = {}

    def of(sample: Sample) -> ModelStatistics:
        key = sample.labels["model"], sample.labels["version"]
        return found.setdefault(key, ModelStatistics(*key))

    for sample in _samples(metrics.QUEUE_DEPTH):
        of(sample).queue_depth = int(sample.value)
    for sample in _counts(metrics.IMAGES):
        of(sample).images[sample.labels["outcome"]] = sample.value
    for sample in _counts(metrics.DROPPED):
        of(sample).dropped_images[sample.labels["stage"]] = sample.value
    for sample in _counts(metrics.EXECUTIONS):
        of(sample).executions[sample.labels["close_reason"]] = sample.value
    for model in found.values():
        model.micro_batch_images = _of_model(metrics.MICRO_BATCH_IMAGES, model)
        model.queue_s = _of_model(metrics.QUEUE_DURATION, model)
        model.decode_s = _of_model(metrics.DECODE_DURATION, model)
        model.inference_s = _of_model(metrics.INFERENCE_DURATION, model)
    return tuple(found[key] for key in sorted(found))


def _of_model(histogram: Histogram, model: ModelStatistics) -> Distribution:
    wanted = {"model": model.model, "version": model.version}
    return _distribution(
        sample for sample in _samples(histogram) if wanted.items() <= sample.labels.items()
    )


def _by_label(counter: Counter, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in _counts(counter)}


def _counts(counter: Counter) -> Iterator[Sample]:
    """Yields the counts, without the samples that say since when there is one."""
    return (sample for sample in _samples(counter) if sample.name.endswith("_total"))


def _samples(metric: ProcessMetric) -> Iterator[Sample]:
    for family in metric.collect():
        yield from family.samples


def _distribution(samples: Iterator[Sample]) -> Distribution:
    """Returns the distribution of one series; Prometheus' counts are cumulative."""
    bounds: list[float] = []
    cumulative: list[float] = []
    total = 0.0
    for sample in samples:
        if sample.name.endswith("_bucket"):
            bounds.append(float(sample.labels["le"]))
            cumulative.append(sample.value)
        elif sample.name.endswith("_sum"):
            total = sample.value
    if not cumulative or not cumulative[-1]:
        return Distribution()
    before = [0.0, *cumulative[:-1]]
    counts = tuple(now - then for now, then in zip(cumulative, before, strict=True))
    return Distribution(tuple(bounds[:-1]), counts, total)
