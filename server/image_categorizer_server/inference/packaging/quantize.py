"""fp32 → int8 on a CPU: static quantisation by ONNX Runtime, from pictures that show the ranges.

    pictures ─▶ inputs, as serving makes them ─▶ range of every activation ─▶ QDQ graph

Weights are int8, a scale for each output channel; activations uint8, their ranges cut at a
percentile.  Scaling, softmax or sigmoid, and what only the features need stay float.
"""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.export import ONNX_FILE, WEIGHTS_FILE
from image_categorizer_server.inference.models.manifest import MANIFEST_FILE, Manifest, digest_of
from image_categorizer_server.inference.packaging.evaluate import (
    BATCH_SIZE,
    OnStep,
    Picture,
    read_input,
)
from image_categorizer_server.inference.packaging.onnx import first_line, write_companions
from image_categorizer_server.inference.packaging.onnx_graph import is_quantized
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT

# Those that compute, and those between them that would else turn integers to floats and back.
OPERATORS = ["Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Inputs uint8 (H, W, 3) that show the ranges, and their files."""

    inputs: tuple[NDArray[np.uint8], ...]
    pictures: tuple[Picture, ...]
    unreadable: int
    """Files that were no images."""


def read_calibration(
    found: Sequence[Picture],
    preprocessor: Preprocessor,
    *,
    least: int,
    most: int,
    on_step: OnStep,
) -> Calibration:
    """Returns inputs of at most `most` pictures, spread evenly over those found; blocks.

    Raises:
        OperatorError: fewer than `least` of them can be decoded.
    """
    chosen = [found[index * len(found) // most] for index in range(most)]
    chosen = list(found) if len(found) <= most else chosen
    inputs, pictures = [], []
    for number, picture in enumerate(chosen, 1):
        array = read_input(preprocessor, picture.file)
        if array is not None:
            inputs.append(array)
            pictures.append(picture)
        on_step("Reading", number, len(chosen))
    if len(inputs) < least:
        raise OperatorError(
            f"{len(inputs)} pictures to calibrate with are too few: "
            f"give at least {least}, of the kind that will be classified."
        )
    return Calibration(tuple(inputs), tuple(pictures), len(chosen) - len(inputs))


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # published without types
    """Hands out micro-batches, by range: so ONNX Runtime need not hold the results of all."""

    def __init__(self, inputs: Sequence[NDArray[np.uint8]], on_step: OnStep) -> None:
        self._batches = [
            np.stack(inputs[start : start + BATCH_SIZE])
            for start in range(0, len(inputs), BATCH_SIZE)
        ]
        self._on_step = on_step
        self._left: Iterator[tuple[int, NDArray[np.uint8]]] = iter(())

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Chooses which micro-batches come next."""
        self._left = iter([*enumerate(self._batches)][start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Returns the next micro-batch, None after the last."""
        number, batch = next(self._left, (0, None))
        if batch is None:
            return None
        self._on_step("Calibrating", number + 1, len(self._batches))
        return {INPUT: batch}


def quantize_graph(
    file: Path, out: Path, inputs: Sequence[NDArray[np.uint8]], on_step: OnStep
) -> None:
    """Writes the int8 twin of a served graph; blocks for seconds to minutes.

    Raises:
        OperatorError: ONNX Runtime cannot quantise it, or finds nothing to.
    """
    with tempfile.TemporaryDirectory(prefix="image-categorizer-") as scratch:
        prepared = Path(scratch) / ONNX_FILE
        try:
            # It prints what it does; the progress bar says it better.
            with contextlib.redirect_stdout(io.StringIO()):
                quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
                quantize_static(
                    str(prepared),
                    str(out),
                    _Reader(inputs, on_step),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=OPERATORS,
                    nodes_to_exclude=beside_the_answer(onnx.load_model(prepared)),
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.Percentile,
                    # Despite its name it holds for every method: how many micro-batches' results
                    # are in memory at once.
                    extra_options={"CalibStridedMinMax": 1},
                )
        except Exception as error:  # noqa: BLE001 - its errors share no class of their own
            raise OperatorError(f"ONNX Runtime cannot quantise it: {first_line(error)}") from None
    if not is_quantized(onnx.load_model(out)):
        raise OperatorError("The network has no convolution and no product to quantise.")


def beside_the_answer(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes that the confidences do not follow from."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    left, needed = [OUTPUT], set()
    while left:
        node = made_by.get(left.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            left.extend(node.input)
    return [node.name for node in model.graph.node if node.name not in needed]


def write_version(
    folder: Path, fp32: Path, manifest: Manifest, version: int, localization: Localization
) -> Manifest:
    """Writes the manifest of the int8 version whose graph lies in `folder`; returns it.

    Args:
        folder: holds `model.onnx`.
        fp32: the graph it was made from; what its features are worth lies beside it.
        manifest: of the version it was made from.
        version: its own number.
        localization: what the features of `fp32` are good for.
    """
    weights = fp32.parent / WEIGHTS_FILE
    if weights.is_file():
        shutil.copyfile(weights, folder / WEIGHTS_FILE)
    made_from = f"int8 of {manifest.name} version {manifest.version}, {manifest.digest}"
    files = write_companions(folder, manifest.categories, manifest.input)
    quantized = Manifest.model_validate(
        manifest.model_dump()
        | {
            "files": files,
            "digest": digest_of(files),
            "version": version,
            "format": "onnx",
            "precision": "int8",
            "localization": localization,
            "origin": f"{made_from}; {manifest.origin}".rstrip("; "),
        }
    )
    (folder / MANIFEST_FILE).write_text(quantized.model_dump_json(indent=1) + "\n")
    return quantized
