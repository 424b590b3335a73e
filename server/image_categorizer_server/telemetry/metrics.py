"""Metrics of the process in Prometheus' text format, at `/metrics` of an internal address.

Labels are bounded: methods are those of the contract, reasons those of `ErrorReason`, models and
versions those that an administrator has added, tenants a few.  Nothing that a caller sends becomes
a label.
Names follow https://prometheus.io/docs/practices/naming/; times are in seconds.
"""

import asyncio
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.samples import Sample

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.version import VERSION

Reading = Sample
"""One number of a metric, with its labels."""
ProcessMetric = Counter | Gauge | Histogram
REGISTRY = CollectorRegistry()
"""Not the library's own: what other libraries register there is none of our names."""
ProcessCollector(registry=REGISTRY)
OK, CANCELLED = "OK", "CANCELLED"
STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
MICRO_BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
LAG_INTERVAL_S = 0.25
STOP_S = 2.0
MODEL = ("model", "version")
DRIFT = (*MODEL, "tenant", "kind")
FILE_DESCRIPTORS = Path("/proc/self/fd")

BUILD = Info("categorizer_build", "The release that runs.", registry=REGISTRY)
BUILD.info({"release": VERSION})

CALLS = Counter(
    "categorizer_calls",
    "Calls that have ended, by gRPC status.",
    ("method", "code"),
    registry=REGISTRY,
)
CALL_DURATION = Histogram(
    "categorizer_call_duration_seconds",
    "Time from the arrival of a call to its end; of streams, of the whole stream.",
    ("method",),
    buckets=CALL_S,
    registry=REGISTRY,
)
ERRORS = Counter(
    "categorizer_errors", "Calls that failed, by `ErrorReason`.", ("reason",), registry=REGISTRY
)
IN_FLIGHT = Gauge("categorizer_in_flight", "Calls that are being served.", registry=REGISTRY)

IMAGES = Counter(
    "categorizer_images",
    "Images that have left the micro-batcher, by outcome: OK, or the `ErrorReason`; CANCELLED if "
    "the caller has gone.",
    (*MODEL, "outcome"),
    registry=REGISTRY,
)
DROPPED = Counter(
    "categorizer_dropped_images",
    "Images that nobody waits for any more, or that are late, by the stage that they waited for.",
    (*MODEL, "stage"),
    registry=REGISTRY,
)
EXECUTIONS = Counter(
    "categorizer_executions",
    "Calls of the model, by what closed the micro-batch. Fewer than images: micro-batches.",
    (*MODEL, "close_reason"),
    registry=REGISTRY,
)
MICRO_BATCH_IMAGES = Histogram(
    "categorizer_micro_batch_images",
    "Images of a micro-batch.",
    MODEL,
    buckets=MICRO_BATCH,
    registry=REGISTRY,
)
INFERENCE_DURATION = Histogram(
    "categorizer_inference_duration_seconds",
    "Time of a call of the model, with one micro-batch.",
    MODEL,
    buckets=STAGE_S,
    registry=REGISTRY,
)
DECODE_DURATION = Histogram(
    "categorizer_decode_duration_seconds",
    "Time to decode and preprocess an image.",
    MODEL,
    buckets=STAGE_S,
    registry=REGISTRY,
)
QUEUE_DURATION = Histogram(
    "categorizer_queue_duration_seconds",
    "Time that an image waits, for a decoder and for its micro-batch.",
    MODEL,
    buckets=STAGE_S,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "categorizer_queue_depth",
    "Images between their arrival at the micro-batcher and their outcome.",
    MODEL,
    registry=REGISTRY,
)

CACHE_LOOKUPS = Counter(
    "categorizer_cache_lookups",
    "Looks into the result cache: HIT, MISS, or DOWN if it does not answer.",
    ("outcome",),
    registry=REGISTRY,
)

BATCH_ITEMS = Counter(
    "categorizer_batch_items",
    "Items of batches that this worker has ended, by outcome: OK, or the `ErrorReason`.",
    ("outcome",),
    registry=REGISTRY,
)
WEBHOOK_ATTEMPTS = Counter(
    "categorizer_webhook_attempts",
    "Attempts to deliver a webhook, by outcome: DELIVERED or FAILED.",
    ("outcome",),
    registry=REGISTRY,
)
WEBHOOKS_GIVEN_UP = Counter(
    "categorizer_webhooks_given_up",
    "Webhooks that were not delivered and will not be attempted again.",
    registry=REGISTRY,
)
PENDING = Gauge(
    "categorizer_pending",
    "Work of all tenants that is not finished: chunks of batches, messages of the outbox, "
    "deliveries of webhooks.",
    ("kind",),
    registry=REGISTRY,
)

PREDICTION_DRIFT = Gauge(
    "categorizer_prediction_drift_psi",
    "By how much the predictions of today and yesterday differ from those of 30 to 7 days ago: the "
    "population stability index, by kind: `category` or `confidence`. Without a tenant, of all "
    "tenants together; with one, of those with the most images. Absent with too few images.",
    DRIFT,
    registry=REGISTRY,
)

TASKS = Gauge("categorizer_tasks", "Tasks of the event loop.", registry=REGISTRY)
OPEN_FDS = Gauge("categorizer_open_fds", "Open file descriptors.", registry=REGISTRY)
DB_POOL_IN_USE = Gauge(
    "categorizer_db_pool_in_use", "Connections of the database pool in use.", registry=REGISTRY
)
LOOP_LAG = Histogram(
    "categorizer_event_loop_lag_seconds",
    "By how much the event loop is late, measured several times a second.",
    buckets=LAG_S,
    registry=REGISTRY,
)
HEARTBEAT = Gauge(
    "categorizer_heartbeat_timestamp_seconds",
    "When the event loop last ran, in seconds since 1970. If that is long ago, it hangs.",
    registry=REGISTRY,
)
DATA_FREE = Gauge(
    "categorizer_data_free_bytes",
    "Free space of the disk that holds the images; absent if they are in an object store.",
    ("folder",),
    registry=REGISTRY,
)
DATA_SIZE = Gauge(
    "categorizer_data_size_bytes",
    "Size of the disk that holds the images; absent if they are in an object store.",
    ("folder",),
    registry=REGISTRY,
)
CERTIFICATE_EXPIRY = Gauge(
    "categorizer_certificate_expiry_timestamp_seconds",
    "When a certificate of this installation expires, in seconds since 1970: that of the gateway "
    "towards its clients, or those of the internal connections. NaN if it cannot be read.",
    ("certificate",),
    registry=REGISTRY,
)


class ModelMeter:
    """The metrics of one version of a model. Safe to use from any thread."""

    def __init__(self, name: str, version: str) -> None:
        """Finds the series once: a look-up for each image costs more than the count."""
        self.labels = (name, version)
        """Name and version of the model."""
        self._depth = QUEUE_DEPTH.labels(name, version)
        self._size = MICRO_BATCH_IMAGES.labels(name, version)
        self._inference = INFERENCE_DURATION.labels(name, version)
        self._decode = DECODE_DURATION.labels(name, version)
        self._queue = QUEUE_DURATION.labels(name, version)
        self._ok = IMAGES.labels(name, version, OK)

    def enter(self) -> None:
        """Counts an image that is admitted."""
        self._depth.inc()

    def exit(self) -> None:
        """Counts an image that nothing holds any more."""
        self._depth.dec()

    def answer(self, decode_ms: float, queue_ms: float) -> None:
        """Counts an image that the model has answered."""
        self._ok.inc()
        self._decode.observe(decode_ms / 1000)
        self._queue.observe(queue_ms / 1000)

    def fail(self, reason: str) -> None:
        """Counts an image that was refused, failed or was given up by its caller."""
        IMAGES.labels(*self.labels, reason).inc()

    def drop(self, stage: str) -> None:
        """Counts an image that left the queue before a stage: `decode`, `model` or `locate`."""
        DROPPED.labels(*self.labels, stage).inc()

    def execute(self, size: int, close_reason: str, seconds: float) -> None:
        """Counts a call of the model with a micro-batch."""
        EXECUTIONS.labels(*self.labels, close_reason).inc()
        self._size.observe(size)
        self._inference.observe(seconds)


@contextmanager
def serving_metrics(bind: str, pool_in_use: Callable[[], int]) -> Iterator[None]:
    """Answers `GET /metrics` until the block ends; does nothing if `bind` is empty.

    Call it on the event loop.  A thread of its own answers, so an event loop that hangs can still
    be looked at.

    Args:
        bind: host:port.
        pool_in_use: returns how many connections of the database pool are in use.

    Raises:
        OperatorError: the address is in use, or is not host:port.
    """
    if not bind:
        yield
        return
    loop = asyncio.get_running_loop()
    TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
    OPEN_FDS.set_function(_open_fds)
    DB_POOL_IN_USE.set_function(pool_in_use)
    host, _, port = bind.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), REGISTRY)
    except (OSError, ValueError, OverflowError) as error:
        raise OperatorError(
            f"CATEGORIZER_TELEMETRY__METRICS_BIND: cannot listen on {bind}: "
            f"{getattr(error, 'strerror', None) or 'it is not host:port'}."
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(STOP_S)


def samples(metric: ProcessMetric) -> Iterator[Reading]:
    """Yields what a metric says now, of all its labels."""
    for family in metric.collect():
        yield from family.samples


async def measure_lag() -> None:
    """Measures by how much the event loop is late, for ever."""
    while True:
        due_s = time.monotonic() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        LOOP_LAG.observe(max(0.0, time.monotonic() - due_s))
        HEARTBEAT.set_to_current_time()


def show_disk(folder: Path) -> None:
    """Shows how full the disk of a folder is, whenever the metrics are read."""
    DATA_FREE.labels("images").set_function(lambda: _disk_usage(folder)[0])
    DATA_SIZE.labels("images").set_function(lambda: _disk_usage(folder)[1])


def show_certificate(name: str, expiry_s: Callable[[], float]) -> None:
    """Shows when a certificate expires, whenever the metrics are read.

    Args:
        name: says whose it is.
        expiry_s: returns the time, in seconds since 1970; NaN if it is unknown.
    """
    CERTIFICATE_EXPIRY.labels(name).set_function(expiry_s)


def _disk_usage(folder: Path) -> tuple[float, float]:
    """Returns free bytes and size; NaN while there is no such folder."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return usage.free, usage.total


def _open_fds() -> int:
    """Returns the number of open file descriptors; 0 where the system has no /proc."""
    try:
        return sum(1 for _ in FILE_DESCRIPTORS.iterdir())
    except OSError:
        return 0
