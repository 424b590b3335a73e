"""Decides what the numbers of a graph are: confidences already, or what softmax or sigmoid takes.

The graph is asked about many pictures.  What it answers counts, together with what its operators
can answer at all; see `onnx_ranges`.  Confidences never get a second activation.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec, sample_inputs
from image_categorizer_server.inference.packaging.onnx_ranges import Range

Step = Literal["softmax", "sigmoid", "none"]
"""What makes confidences of a graph's numbers; `none` if they are confidences."""
ROUNDING = 2e-3
"""By what sums of half precision are off."""
OVERSHOOT = 1e-3
MIN_VARIATION = 1e-5
MIN_LOGIT = 1.5
"""Numbers on both sides of 0 that are larger than this are no confidences, and no tanh."""
MAX_PROBES, MIN_PROBES, PROBE_BYTES = 32, 8, 64 * 2**20
PERCENT = 100


@dataclass(frozen=True, slots=True)
class Answers:
    """What a graph returns for a picture, and what it lacks to be confidences."""

    width: int
    """How many numbers."""
    activation: Activation
    """`softmax` if categories exclude one another, `sigmoid` if each is decided by itself."""
    step: Step = "none"
    is_percent: bool = False
    completes: bool = False
    """Whether one number, the probability of the second of two categories, becomes two."""
    summary: str = ""

    def confidences(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the confidences (N, C) that numbers (N, `width`) stand for."""
        exact = numbers.astype(np.float64) / (PERCENT if self.is_percent else 1)
        if self.step == "softmax":
            powers = np.exp(exact - exact.max(-1, keepdims=True))
            exact = powers / powers.sum(-1, keepdims=True)
        elif self.step == "sigmoid":
            exact = np.exp(-np.logaddexp(0, -exact))
        if self.completes:
            exact = np.concatenate([1 - exact, exact], -1)
        return exact.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Given:
    """What is known beside the numbers."""

    range: Range
    """Of the graph's output, by its operators."""
    labels: tuple[str, ...]
    activation: Activation | Literal["none"] | None = None
    """What the user says."""
    is_multi_label: bool = False
    """Whether a config.json says that a picture may have several labels."""
    ends_in_softmax: bool = False


def probe_inputs(spec: InputSpec) -> list[NDArray[np.uint8]]:
    """Returns synthetic inputs uint8 (H, W, 3), as different as pictures can be.

    The more they differ, the less can numbers of another kind pass for confidences by luck.
    """
    shape = (spec.height_px, spec.width_px, 3)
    size = spec.height_px * spec.width_px * 3
    count = min(max(PROBE_BYTES // size, MIN_PROBES), MAX_PROBES)
    random = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]][:, :, :, None] / max(shape[:2])
    found = list(sample_inputs(spec))
    for number in range(count - len(found)):
        colour, other = random.integers(0, 256, (2, 3))
        if number < 8:  # the corners of the colour cube, black and white among them
            found.append(np.full(shape, [255 * (number >> bit & 1) for bit in range(3)], np.uint8))
            continue
        angle, waves = random.uniform(0, np.pi), random.uniform(0.5, 40)
        share = 0.5 + 0.5 * np.sin(waves * (x * np.cos(angle) + y * np.sin(angle)))
        noise = random.normal(0, random.choice([0, 10, 60]), shape)
        found.append(np.clip(colour * share + other * (1 - share) + noise, 0, 255).astype(np.uint8))
    return found


def decide(numbers: NDArray[np.float32], given: Given) -> Answers:
    """Returns what the numbers of a graph are.

    Args:
        numbers: (N, C) for N different inputs.
        given: what else is known.

    Raises:
        OperatorError: it cannot be decided, or the user says something else than the graph.
    """
    own = _own_confidences(numbers, given)
    if own is None:
        answers = _activated(numbers, given)
    elif given.activation not in (None, "none", own.activation):
        raise OperatorError(
            f"The graph already answers confidences, as {own.activation} gives them: omit "
            "--activation."
        )
    else:
        answers = own
    if len(given.labels) == answers.width:
        return answers
    first, second = given.labels
    return Answers(
        width=1,
        activation="softmax",
        step=answers.step,
        is_percent=answers.is_percent,
        completes=True,
        summary=f"{answers.summary} It is one number p for two labels: '{second}' gets p, "
        f"'{first}' gets 1 - p; swap the labels if that is the wrong way round.",
    )


def _own_confidences(numbers: NDArray[np.float32], given: Given) -> Answers | None:
    """Returns what the graph's own confidences are; None if it does not answer any."""
    width, can_be = numbers.shape[1], given.range
    is_proven = can_be.within(0, 1)
    is_proven_percent = can_be.within(0, PERCENT) and can_be.high > PERCENT / 2
    # Logits whose sum is the same for all pictures do not exist, unless they hardly vary at all.
    variation = float(np.ptp(numbers, axis=0).max())
    varies = variation > MIN_VARIATION and float(np.ptp(numbers.sum(-1))) < variation / 20
    if width > 1 and _is_within(numbers, 1):
        is_share = _sum_to(numbers, 1) and (varies or is_proven)
        if is_share or (is_proven and given.ends_in_softmax):
            return Answers(
                width, "softmax", summary="The graph answers confidences: they sum to 1."
            )
        heads = round(float(numbers.sum(-1).mean()))
        if varies and heads > 1 and _sum_to(numbers, heads):
            return Answers(
                width,
                "sigmoid",
                summary=f"The graph answers confidences: they sum to {heads}, as {heads} "
                "heads with a softmax each do.",
            )
    is_whole = width > 1 and _is_within(numbers, PERCENT) and _sum_to(numbers, PERCENT)
    if is_whole and (varies or is_proven_percent):
        return Answers(
            width,
            "softmax",
            is_percent=True,
            summary="The graph answers percentages that sum to 100: they are divided by 100.",
        )
    if is_proven and _is_within(numbers, 1):
        return Answers(
            width, "sigmoid", summary="The graph answers confidences: each is between 0 and 1."
        )
    if is_proven_percent and _is_within(numbers, PERCENT):
        return Answers(
            width,
            "sigmoid",
            is_percent=True,
            summary="The graph answers percentages: they are divided by 100.",
        )
    return None


def _activated(numbers: NDArray[np.float32], given: Given) -> Answers:
    """Returns which activation makes confidences of the numbers."""
    width, low, high = numbers.shape[1], float(numbers.min()), float(numbers.max())
    found = f"The graph answers numbers from {low:.3g} to {high:.3g}"
    is_unit = _is_within(numbers, 1)
    if given.activation == "none":
        if not is_unit:
            raise OperatorError(
                f"{found}, which are no confidences: choose --activation softmax or sigmoid."
            )
        return Answers(width, "sigmoid", summary=f"{found}, taken as confidences as they are.")
    if given.range.source == "mixed":
        raise OperatorError(
            f"{found}, of which some are confidences and others are not: export the graph with "
            "one kind for all, because --activation cannot treat them differently."
        )
    if width == 1 and given.activation == "softmax":
        raise OperatorError(
            "The graph answers one number for a picture, and softmax of one number is always 1: "
            "choose --activation sigmoid."
        )
    if given.activation is None and not _are_logits(numbers, given):
        none = "may be confidences or not: choose --activation none if they are, or"
        rest = none if is_unit else "are no confidences, and perhaps no logits: choose --activation"
        raise OperatorError(f"{found}, which {rest} softmax or sigmoid to have it added.")
    if given.activation == "sigmoid" and _are_logarithms(numbers):
        raise OperatorError(
            "The graph answers logarithms of confidences that sum to 1: omit --activation."
        )
    step: Activation = "sigmoid" if width == 1 or given.is_multi_label else "softmax"
    step = given.activation or step
    hint = "" if given.activation or width == 1 else _hint(step)
    return Answers(width, step, step, summary=f"{found}: {step} is added{hint}.")


def _hint(step: Activation) -> str:
    other = "sigmoid" if step == "softmax" else "softmax"
    why = "may have several labels" if other == "sigmoid" else "has one label only"
    return f" (--activation {other} if a picture {why})"


def _are_logits(numbers: NDArray[np.float32], given: Given) -> bool:
    """Whether the numbers are what softmax takes.

    They are if a linear operator computes them and nothing bounds them, or if they are logarithms
    of confidences, whose softmax they are.
    """
    if given.range.source != "unknown" and given.range.low >= 0:
        return False
    if given.range.source == "linear" and given.range.high > 1:
        return True
    is_wide = bool(numbers.min() < -MIN_LOGIT and numbers.max() > MIN_LOGIT)
    return _are_logarithms(numbers) or (given.range.source == "unknown" and is_wide)


def _are_logarithms(numbers: NDArray[np.float32]) -> bool:
    return bool(numbers.max() <= ROUNDING) and _sum_to(np.exp(numbers), 1)


def _is_within(numbers: NDArray[np.float32], limit: float) -> bool:
    return bool((numbers >= 0).all() and (numbers <= limit * (1 + OVERSHOOT)).all())


def _sum_to(numbers: NDArray[np.float32], total: float) -> bool:
    return bool((np.abs(numbers.sum(-1) - total) <= ROUNDING * total).all())
