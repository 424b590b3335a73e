"""Drift as metrics: at intervals, what versions predict now is compared with earlier days.

Every server reports the same numbers, whoever has made the predictions.  The window is today and
yesterday, so that it always has a whole day: the pictures of a night differ from those of a day.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.db import drift as rows
from image_categorizer_server.domain.drift import Days, Drift, DriftState, Version
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.drift import compare
from image_categorizer_server.settings.drift import DriftSettings
from image_categorizer_server.telemetry.metrics import DRIFT, PREDICTION_DRIFT

WINDOW_DAYS = 2
MAX_VERSIONS = 100
"""Of models, for all tenants together."""


async def measure_drift(settings: DriftSettings) -> None:
    """Measures the drift of the versions that are used most, at intervals, for ever."""
    with all_tenants():
        while True:
            try:
                found = await _drifts(settings)
            except DependencyDown:
                found = []  # old numbers would mislead
            report(found)
            await asyncio.sleep(clock.jittered(settings.metrics_interval_s, 0.1))


async def _drifts(settings: DriftSettings) -> list[Drift]:
    """Returns the drift of the versions that are used most, by all tenants and by the largest.

    Raises:
        DependencyDown: the database does not answer.
    """
    today = clock.now().date()
    window = Days(today - timedelta(days=WINDOW_DAYS - 1), today)
    versions: list[Version] = [
        *await rows.busiest(window, MAX_VERSIONS, of_all=True),
        *await rows.busiest(window, settings.metrics_tenants, of_all=False),
    ]
    return [await compare(version, today, WINDOW_DAYS) for version in versions]


def report(drifts: Sequence[Drift]) -> None:
    """Makes these all that the metric says; those of too few images are left out."""
    values: dict[tuple[str, ...], float] = {}
    for drift in drifts:
        if drift.state is DriftState.NOT_ENOUGH_IMAGES:
            continue
        version = drift.version
        of_version = version.model, str(version.number), version.tenant_id
        values[*of_version, "category"] = drift.category_index
        values[*of_version, "confidence"] = drift.confidence_index
    for metric in PREDICTION_DRIFT.collect():
        for sample in metric.samples:
            gone = tuple(sample.labels[name] for name in DRIFT)
            if gone not in values:
                PREDICTION_DRIFT.remove(*gone)
    for labels, value in values.items():
        PREDICTION_DRIFT.labels(*labels).set(value)
