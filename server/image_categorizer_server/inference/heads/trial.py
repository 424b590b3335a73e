"""Compares a new head with the present one on examples that neither has seen.

The examples are divided into `FOLDS`.  Each fold is held out once: the new head is fitted to the
others, and the present one to those of the others that it knows.  What the two answer goes through
the gate of `models check`: a promotion policy, whose labelled set is the held-out examples.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.inference.heads.examples import OTHER, Labelled, Mask
from image_categorizer_server.inference.heads.linear import fit_linear
from image_categorizer_server.inference.heads.means import Means
from image_categorizer_server.inference.models.promotion import Check, Policy, Promotion

FOLDS = 5
PRESENT, NEW = 1, 2
"""The heads as versions."""
Answers = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial has shown."""

    total_count: int
    right_count: int
    baseline_right_count: int
    refusal: str
    """Why the new head may not decide; empty if it may."""


def compared(
    examples: Labelled,
    categories: Sequence[str],
    known: Mask | None,
    max_flips_per_category: int | None = None,
) -> Outcome:
    """Returns how a new logistic regression compares with the present head.

    Args:
        examples: at least `FOLDS` of each category.
        categories: their names.
        known: bool (N,), the examples that the present regression was fitted to; None if the means
            decide.
        max_flips_per_category: as in a promotion policy.
    """
    folds = folds_of(examples.labels)
    new = _answers(examples, folds, lambda train: fit_linear(examples.of(train)).logits)
    if known is None:
        present = _answers(examples, folds, lambda train: Means.of(examples.of(train), 0).logits)
    else:
        present = _answers(
            examples, folds, lambda train: fit_linear(examples.of(train & known)).logits
        )
    return _judged(examples, categories, (present, new), max_flips_per_category)


def folds_of(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns the fold of each example, intp (N,): every category is spread over all folds."""
    folds = np.zeros(len(labels), np.intp)
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        folds[of_label] = np.arange(len(of_label)) % FOLDS
    return folds


def _answers(
    examples: Labelled,
    folds: NDArray[np.intp],
    fitted: Callable[[Mask], Callable[[NDArray[np.float32]], NDArray[np.float32]]],
) -> Answers:
    answers = np.empty(len(examples), np.intp)
    for fold in range(FOLDS):
        is_held_out = folds == fold
        if is_held_out.any():
            logits = fitted(~is_held_out)(examples.vectors[is_held_out])
            answers[is_held_out] = logits.argmax(axis=1)
    answers[answers == examples.category_count] = OTHER
    return answers


def _judged(
    examples: Labelled,
    categories: Sequence[str],
    answers: tuple[Answers, Answers],
    max_flips_per_category: int | None,
) -> Outcome:
    """Returns the outcome.  The new head must have more right, or all."""
    before, after = (found == examples.labels for found in answers)
    total, right, baseline = len(examples), int(after.sum()), int(before.sum())
    lost = examples.labels[before & ~after]
    flips = Counter("" if label == OTHER else categories[label] for label in lost.tolist())
    digest = _digest(examples.labels.tobytes() + examples.vectors.tobytes())
    digests = {PRESENT: _digest(b"present"), NEW: _digest(b"new")}
    check = Check(
        digest=digests[NEW],
        dataset_digest=digest,
        right=right,
        pictures=total,
        baseline_version=PRESENT,
        baseline_digest=digests[PRESENT],
        flips=dict(flips),
    )
    policy = Policy(
        dataset="held-out examples",
        dataset_digest=digest,
        min_accuracy=min(baseline + 1, total) / total,
        max_flips_per_category=max_flips_per_category,
    )
    refusal = Promotion(policy=policy, checks={NEW: check}).refusal(NEW, digests, PRESENT)
    return Outcome(total, right, baseline, refusal)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
