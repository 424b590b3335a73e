"""Compares what is served with the user's own ONNX graph, picture by picture.

The original sees what its own preprocessing makes of a picture: transformers' image processor where
a card names one, else the scaling that the options state.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce
from image_categorizer_server.inference.packaging.processor import SAMPLE_SIZES_PX, picture
from image_categorizer_server.inference.packaging.selftest_outcome import SelfTest, row_of

# Of a confidence, from pictures as they come: rounding of bytes counts, and grey is made of three.
MAX_DIFFERENCE = 1e-2
Confidences = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Takes a picture uint8 (H, W, 3) of any size, returns the confidence of each category."""


def run_self_test(names: Sequence[str], theirs: Confidences, ours: Confidences) -> SelfTest:
    """Returns the outcome; blocks for as long as ten calls take.

    Args:
        names: the categories.
        theirs: the original.
        ours: what will be served.

    Raises:
        OperatorError: a confidence differs by more than 0.01.
    """
    rows = [row_of(name, names, theirs(shown), ours(shown)) for name, shown in pictures()]
    test = SelfTest("the original graph", rows)
    if not test.difference <= MAX_DIFFERENCE:  # also where it is not a number
        raise OperatorError(
            f"The self-test failed: a confidence differs from that of the original graph by "
            f"{test.difference:.2g}, more than {MAX_DIFFERENCE:g}. The model is not added."
        )
    return test


def pictures() -> list[tuple[str, NDArray[np.uint8]]]:
    """Returns pictures uint8 (H, W, 3) and their names."""
    random = np.random.default_rng(0)
    width, height = SAMPLE_SIZES_PX[0]
    return [
        *(
            (f"waves {width} x {height}", picture(width, height))
            for width, height in SAMPLE_SIZES_PX
        ),
        ("noise", random.integers(0, 256, (height, width, 3), np.uint8)),
        ("grey", np.full((height, width, 3), 128, np.uint8)),
    ]


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
    scaled = scaled[..., ::-1] if spec.colour == "bgr" else scaled
    return scaled.astype(np.float32)
