"""Compares what is served with the library that a model is from, picture by picture.

The original reads the user's own folder, with its own image processor; only where transformers of
today cannot read that folder does it read our copy.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce
from image_categorizer_server.inference.models.export import MAX_DIFFERENCE
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.packaging.detector import detector_row
from image_categorizer_server.inference.packaging.folder import CONFIG, WEIGHTS, read_json
from image_categorizer_server.inference.packaging.processor import (
    SAMPLE_SIZES_PX,
    Card,
    picture,
    prepared,
    read_card,
    reading,
)
from image_categorizer_server.inference.packaging.selftest_outcome import (
    BOX_OR_SCORE,
    Row,
    SelfTest,
    Shown,
    row_of,
)
from image_categorizer_server.inference.runtimes import Runtime

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def run_self_test(
    source: Path, folder: Path, manifest: Manifest, runtime: Runtime, example: Pixels | None
) -> SelfTest:
    """Returns the outcome; blocks for seconds.

    Args:
        source: the user's folder.
        folder: the new version.
        manifest: its manifest.
        runtime: what will serve it.
        example: a photograph; None if there is none.

    Raises:
        OperatorError: a confidence, or a score or a box of a detector, differs by more than 0.001.
    """
    # A detector's pictures may be resized as the user says, not as the source does.
    row, kind, described = _row, "a confidence", source
    if manifest.detection:
        row, kind, described = detector_row, BOX_OR_SCORE, folder
    card = read_card(described, read_json(folder / CONFIG))
    with reading(source / WEIGHTS, folder):
        network = _original(source, folder)
        rows = [row(shown, network, card, manifest, runtime) for shown in _pictures(card, example)]
    test = SelfTest("transformers", rows, kind)
    if not test.difference <= MAX_DIFFERENCE:  # also where it is not a number
        raise OperatorError(
            f"{test}\nThe model is not added: {kind} differs from that of transformers by "
            f"{test.difference:.2g}, more than {MAX_DIFFERENCE:g}."
        )
    return test


def _original(source: Path, folder: Path) -> "PreTrainedModel":
    """Returns the network as transformers loads it for anyone."""
    from image_categorizer_server.inference.runtimes.network import load_body

    try:
        return load_body(source)[0]
    except Exception:  # noqa: BLE001 - what the folder holds decides what transformers raises
        return load_body(folder)[0]


def _pictures(card: Card, example: Pixels | None) -> list[Shown]:
    shown = [
        Shown(f"waves {width} x {height}", picture(width, height))
        for width, height in card.sizes_px
    ]
    width, height = card.sizes_px[0]
    random = np.random.default_rng(0)
    shown.append(Shown("noise", random.integers(0, 256, (height, width, 3), np.uint8)))
    shown.append(Shown("grey", np.full((height, width, 3), 128, np.uint8)))
    if example is not None:
        is_free = card.sizes_px == SAMPLE_SIZES_PX
        box = 0, 0, width, height
        array = example.array() if is_free else example.resized(width, height, box, "bilinear")
        shown.append(Shown("a photograph", array))
    return shown


def _row(
    shown: Shown, network: "PreTrainedModel", card: Card, manifest: Manifest, runtime: Runtime
) -> Row:
    theirs = _their_confidences(shown.array, network, card, manifest)
    ours = _our_confidences(shown.array, manifest.input, runtime)
    names = [entry.name for entry in manifest.categories]
    if theirs.shape != ours.shape or len(ours) != len(names):
        raise OperatorError(
            f"The network answers {len(theirs)} numbers, but config.json has {len(names)} labels."
        )
    if manifest.activation == "none" and (theirs.min() < 0 or theirs.max() > 1):
        raise OperatorError(
            f"The network answers numbers from {theirs.min():.3g} to {theirs.max():.3g}, which "
            "are no confidences: omit --activation none."
        )
    return row_of(shown.name, names, theirs, ours)


def _their_confidences(
    array: NDArray[np.uint8], network: "PreTrainedModel", card: Card, manifest: Manifest
) -> NDArray[np.float64]:
    """Returns float (C) as the pipeline of transformers does."""
    import torch

    values = torch.from_numpy(prepared(card.processor, card.spec, array)[None])
    with torch.inference_mode():
        logits = network(pixel_values=values).logits[0].double()
    if manifest.activation == "softmax":
        logits = logits.softmax(-1)
    elif manifest.activation == "sigmoid":
        logits = logits.sigmoid()
    answer: NDArray[np.float64] = logits.numpy()
    return answer


def _our_confidences(
    array: NDArray[np.uint8], spec: InputSpec, runtime: Runtime
) -> NDArray[np.float32]:
    answer: NDArray[np.float32] = runtime.predict([reduce(Pixels.of(array), spec)]).confidences[0]
    return answer
