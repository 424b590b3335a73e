"""Compares what is served with the user's own ONNX graph, picture by picture.

The original sees what its own preprocessing makes of a picture: transformers' image processor where
a card names one, else the scaling that the options state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce

MAX_NAME = 24
# Of a confidence, from pictures as they come: rounding of bytes counts, and grey is made of three.
MAX_DIFFERENCE = 1e-2
# Confidences that are closer are as good as equal: rounding decides which is first.
ROUNDING = 1e-5
SIZES_PX = ((300, 200), (200, 300), (331, 331))
Confidences = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Takes a picture uint8 (H, W, 3) of any size, returns the confidence of each category."""


@dataclass(frozen=True, slots=True)
class Row:
    """What both answer for one picture: the first category and its confidence."""

    picture: str
    theirs: tuple[str, float]
    ours: tuple[str, float]
    difference: float
    """Largest difference of a confidence."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The outcome of a self-test."""

    rows: Sequence[Row]

    @property
    def difference(self) -> float:
        """Largest difference of a confidence, over all pictures and categories."""
        return max(row.difference for row in self.rows)

    def __str__(self) -> str:
        equal = sum(row.theirs[0] == row.ours[0] for row in self.rows)
        first = (
            f"Self-test on {len(self.rows)} pictures: {equal} have the same first category as with "
            f"the original graph; largest difference of a confidence {self.difference:.1e}"
        )
        wide = max(len(row.picture) for row in self.rows)
        lines = [
            f"  {row.picture:<{wide}}  original: {_said(row.theirs)}   here: {_said(row.ours)}"
            for row in self.rows
        ]
        return "\n".join([first, *lines])


def _said(answer: tuple[str, float]) -> str:
    name, confidence = answer
    name = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"
    return f"{name} {confidence:.4f}"


def run_self_test(names: Sequence[str], theirs: Confidences, ours: Confidences) -> SelfTest:
    """Returns the outcome; blocks for as long as ten calls take.

    Args:
        names: the categories.
        theirs: the original.
        ours: what will be served.

    Raises:
        OperatorError: a confidence differs by more than 0.01.
    """
    test = SelfTest([_row(name, shown, names, theirs, ours) for name, shown in pictures()])
    if not test.difference <= MAX_DIFFERENCE:  # also where it is not a number
        raise OperatorError(
            f"The self-test failed: a confidence differs from that of the original graph by "
            f"{test.difference:.2g}, more than {MAX_DIFFERENCE:g}. The model is not added."
        )
    return test


def _row(
    picture: str,
    shown: NDArray[np.uint8],
    names: Sequence[str],
    theirs: Confidences,
    ours: Confidences,
) -> Row:
    original, served = theirs(shown), ours(shown)
    first = int(original.argmax())
    own = first if served.max() - served[first] <= ROUNDING else int(served.argmax())
    return Row(
        picture,
        (names[first], float(original[first])),
        (names[own], float(served[own])),
        float(np.abs(original - served).max()),
    )


def pictures() -> list[tuple[str, NDArray[np.uint8]]]:
    """Returns pictures uint8 (H, W, 3) and their names."""
    random = np.random.default_rng(0)
    width, height = SIZES_PX[0]
    return [
        *((f"waves {width} x {height}", _waves(width, height)) for width, height in SIZES_PX),
        ("noise", random.integers(0, 256, (height, width, 3), np.uint8)),
        ("grey", np.full((height, width, 3), 128, np.uint8)),
    ]


def _waves(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Returns a picture with smooth parts and edges: waves of several lengths."""
    y, x = np.mgrid[:height_px, :width_px]
    waves = [
        np.sin(x / 7 + y / 31),
        np.sin(x / 3 - y / 11),
        np.sign(np.sin(x / 23) * np.sin(y / 17)),
    ]
    return (127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def own_preprocessing(card: Path | None, spec: InputSpec) -> Confidences:
    """Returns what makes the input of the original, float (H, W, 3), of a picture.

    Args:
        card: a preprocessor card; transformers reads it.
        spec: what the options say; counts without a card, or where transformers cannot read it.
    """

    def scaled(shown: NDArray[np.uint8]) -> NDArray[np.float32]:
        return scale(reduce(Pixels.of(shown), spec), spec)

    if card is None:
        return scaled
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            card.parent, trust_remote_code=False, local_files_only=True, backend="pil"
        )
    except (OSError, ValueError, KeyError):
        return scaled

    def processed(shown: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = processor(shown, return_tensors="np")["pixel_values"][0]
        return np.asarray(values, np.float32).transpose(1, 2, 0)

    return processed


def scale(picture: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Returns a picture of the right size as floats, as a specification says."""
    scaled: NDArray[np.float64] = picture * np.array(spec.scale) + np.array(spec.bias)
    return scaled.astype(np.float32)
