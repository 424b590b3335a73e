"""What the original of a model and the version to be served answer, picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_NAME = 24
# Confidences that are closer are as good as equal: rounding decides which is first.
ROUNDING = 1e-6


BOX_OR_SCORE = "a score, or of a box as a share of the picture,"


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the self-test."""

    name: str
    array: NDArray[np.uint8]
    """uint8 (H, W, 3)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What both answer for one picture: the first category and its confidence."""

    picture: str
    theirs: tuple[str, float]
    ours: tuple[str, float]
    difference: float
    """Largest difference of a confidence; for detectors, of a score or a box."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The outcome of a self-test."""

    original: str
    """What answers beside us, such as `transformers`."""
    rows: Sequence[Row]
    kind: str = "a confidence"
    """What was compared."""

    @property
    def difference(self) -> float:
        """The largest difference over all pictures."""
        return max(row.difference for row in self.rows)

    def __str__(self) -> str:
        equal = sum(row.theirs[0] == row.ours[0] for row in self.rows)
        first = (
            f"Self-test on {len(self.rows)} pictures: {equal} have the same first category as with "
            f"{self.original}; largest difference of {self.kind} {self.difference:.1e}"
        )
        wide = max(len(row.picture) for row in self.rows)
        lines = [
            f"  {row.picture:<{wide}}  {self.original}: {_said(row.theirs)}   here: "
            f"{_said(row.ours)}"
            for row in self.rows
        ]
        return "\n".join([first, *lines])


def row_of(picture: str, names: Sequence[str], theirs: NDArray[Any], ours: NDArray[Any]) -> Row:
    """Returns the row of a picture.

    Args:
        picture: its name.
        names: the categories.
        theirs: the original's confidences, float (C).
        ours: float (C).
    """
    first = int(theirs.argmax())
    own = first if ours.max() - ours[first] <= ROUNDING else int(ours.argmax())
    return Row(
        picture,
        (names[first], float(theirs[first])),
        (names[own], float(ours[own])),
        float(np.abs(theirs - ours).max()),
    )


def _said(answer: tuple[str, float]) -> str:
    name, confidence = answer
    name = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"
    return f"{name} {confidence:.4f}"
