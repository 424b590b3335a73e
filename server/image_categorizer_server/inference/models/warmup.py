"""Warms up a model with micro-batches of growing size, and finds the size of the highest rate."""

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.engine.latency import LatencyTable
from image_categorizer_server.inference.images.detect import CORNERS
from image_categorizer_server.inference.images.preprocess import (
    InputSpec,
    sample_inputs,
    wide,
)
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.runtimes import Runtime
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
MEASURE_S = 0.05
MIN_ROUNDS = 2
# Sizes that reach this share of the best rate count as equal; the largest wins: it needs the
# fewest calls and wake-ups.
EQUAL_RATE = 0.98
# The rate falls for good where so many sizes in a row reach less than this share of the best.
SLOWER_SIZES, SLOWER_RATE = 3, 0.95
ROUNDING = 1e-3


def warm_up(runtime: Runtime, manifest: Manifest, max_size: int) -> tuple[int, LatencyTable]:
    """Calls the runtime with micro-batches; returns the best size and the call times.

    The best size has the highest rate.  On a GPU that is the largest; on a CPU often a small one,
    whose activations stay in the caches.

    Raises:
        OperatorError: a call fails, or its answer does not fit the manifest.
    """
    samples = sample_inputs(manifest.input)
    micro_batches = {
        size: [samples[i % len(samples)] for i in range(size)]
        for size in range(1, max_size + 1)
        if _is_timed(size) or size == max_size
    }
    promising = _promising(runtime, manifest, micro_batches)
    calls_s = _fastest_calls_s(runtime, {size: micro_batches[size] for size in promising})
    best = max(size / call_s for size, call_s in calls_s.items())
    good = [size for size, call_s in calls_s.items() if size / call_s >= best * EQUAL_RATE]
    return max(good), LatencyTable(calls_s)


def find_whole(runtime: Runtime, spec: InputSpec) -> int:
    """Returns the bytes of an input with a whole picture; 0 if the network takes none; blocks.

    A network takes inputs of other sizes, or it fails or answers with features for its own size.

    Args:
        runtime: of a network with a feature map whose mean the last layer reads.
        spec: the shape of its own inputs.
    """
    own, whole = sample_inputs(spec)[0], sample_inputs(wide(spec))[0]
    expected = runtime.predict([own], with_features=True).features
    try:
        found = runtime.predict([whole], with_features=True).features
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything
        log.info("the network takes inputs of one size", error=type(error).__name__)
        return 0
    assert expected is not None
    assert found is not None
    cells = [
        round(count * own_px / px)
        for count, own_px, px in zip(found.shape[2:], own.shape, whole.shape[:2], strict=False)
    ]
    fits = tuple(cells) == expected.shape[2:] and bool(np.isfinite(found).all())
    return whole.nbytes if fits else 0


def check_detections(runtime: Runtime, manifest: Manifest) -> int:
    """Returns the bytes of what a detector answers for one image; blocks.

    Raises:
        OperatorError: they are no boxes with a score for each category.
    """
    inputs = sample_inputs(manifest.input)[:2]
    answer = runtime.predict(inputs, with_features=True)
    found, width = answer.features, CORNERS + len(manifest.categories)
    if found is None or found.ndim != 3 or found.shape[::2] != (len(inputs), width):
        shape = None if found is None else found.shape
        expected = len(inputs), "any", width
        raise OperatorError(f"Its boxes have the shape {shape}; the manifest requires {expected}.")
    apart = np.abs(found[..., CORNERS:].max(1) - answer.confidences).max()
    if not apart <= ROUNDING:  # also where it is not a number
        raise OperatorError("Its confidences are not the largest scores of its boxes.")
    return int(found[0].nbytes)


def _is_timed(size: int) -> bool:
    """Whether a size is a power of two or half-way between two: 1, 2, 3, 4, 6, 8, 12 and so on."""
    return size // (size & -size) in {1, 3}


def _promising(
    runtime: Runtime, manifest: Manifest, batches: Mapping[int, Sequence[NDArray[np.uint8]]]
) -> list[int]:
    """Returns the sizes to measure: those up to where the rate falls for good.

    Checks the answers on the way.  On a CPU the larger sizes take most of the time, and they are
    slower for each image.

    Raises:
        OperatorError: see `warm_up`.
    """
    sizes: list[int] = []
    best, slower = 0.0, 0
    for size, inputs in batches.items():
        start_s = time.perf_counter()
        _check_answer(runtime, manifest, inputs)
        rate = size / (time.perf_counter() - start_s)
        sizes.append(size)
        slower = slower + 1 if rate < best * SLOWER_RATE else 0
        if slower == SLOWER_SIZES:
            break
        best = max(best, rate)
    return sizes


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
            f"Its answer to {size} images has shape {confidences.shape}; "
            f"the manifest requires {expected}."
        )
    in_range = confidences.min() >= 0 and confidences.max() <= 1 + ROUNDING
    if not (np.isfinite(confidences).all() and in_range):
        raise OperatorError("Its warm-up returned confidences outside [0, 1].")


def _fastest_calls_s(
    runtime: Runtime, batches: Mapping[int, Sequence[NDArray[np.uint8]]]
) -> dict[int, float]:
    """Returns the shortest of several calls for each size: other load only adds time.

    Each round measures all sizes, so that a busy moment affects them alike.
    """
    fastest_s = dict.fromkeys(batches, math.inf)
    rounds = 0
    end_s = time.perf_counter() + MEASURE_S * len(batches)
    while rounds < MIN_ROUNDS or time.perf_counter() < end_s:
        for size, inputs in batches.items():
            start_s = time.perf_counter()
            runtime.predict(inputs)
            fastest_s[size] = min(fastest_s[size], time.perf_counter() - start_s)
        rounds += 1
    return fastest_s
