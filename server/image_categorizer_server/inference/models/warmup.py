"""Warms a model up with every micro-batch size, and finds the size that serves most."""

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.images.preprocess import sample_inputs
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.runtimes import Runtime

MEASURE_S = 0.05
FEWEST_ROUNDS = 3
# Of sizes whose rates differ by less, the largest: it also costs fewer calls and wake-ups.
AS_GOOD = 0.98
ROUNDING = 1e-3


def warm_up(runtime: Runtime, manifest: Manifest, max_batch_size: int) -> tuple[int, LatencyTable]:
    """Calls the runtime with every micro-batch size; returns the best one and how long calls take.

    The best has the highest rate: on a GPU the largest, on a CPU often a small one, whose
    activations stay in the caches.

    Raises:
        OperatorError: a call fails, or answers what no classifier of this manifest would.
    """
    samples = sample_inputs(manifest.input)
    batches = {
        size: [samples[i % len(samples)] for i in range(size)]
        for size in range(1, max_batch_size + 1)
    }
    for inputs in batches.values():
        _check_answer(runtime, manifest, inputs)
    timed = {size: inputs for size, inputs in batches.items() if _is_timed(size)}
    calls_s = _fastest_calls_s(runtime, timed)
    best = max(size / call_s for size, call_s in calls_s.items())
    good = [size for size, call_s in calls_s.items() if size / call_s >= best * AS_GOOD]
    return max(good), LatencyTable(calls_s)


def _is_timed(size: int) -> bool:
    """Whether it is a power of two, or half-way between two: 1, 2, 3, 4, 6, 8, 12 and so on."""
    return size // (size & -size) in {1, 3}


def _check_answer(
    runtime: Runtime, manifest: Manifest, inputs: Sequence[NDArray[np.uint8]]
) -> None:
    size = len(inputs)
    try:
        confidences = runtime.predict(inputs).confidences
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise OperatorError(f"Its warm-up with {size} images failed: {first}.") from error
    expected = size, len(manifest.categories)
    if confidences.shape != expected:
        raise OperatorError(
            f"It answers {confidences.shape} for {size} images; the manifest says {expected}."
        )
    in_range = confidences.min() >= 0 and confidences.max() <= 1 + ROUNDING
    if not (np.isfinite(confidences).all() and in_range):
        raise OperatorError("Its warm-up gave confidences outside [0, 1].")


def _fastest_calls_s(
    runtime: Runtime, batches: Mapping[int, Sequence[NDArray[np.uint8]]]
) -> dict[int, float]:
    """Returns each size's least time of a few calls: what else the machine does only ever adds.

    The sizes take turns, so that a busy moment meets all of them.
    """
    fastest_s = dict.fromkeys(batches, math.inf)
    rounds = 0
    end_s = time.perf_counter() + MEASURE_S * len(batches)
    while rounds < FEWEST_ROUNDS or time.perf_counter() < end_s:
        for size, inputs in batches.items():
            start_s = time.perf_counter()
            runtime.predict(inputs)
            fastest_s[size] = min(fastest_s[size], time.perf_counter() - start_s)
        rounds += 1
    return fastest_s
