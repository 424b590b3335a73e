"""Makes the int8 version of a packaged network from ranges of its activations that ship with it.

    data/int8/<network>.json   the ranges, corrections, and what int8 loses against fp32

Calibration needs pictures and half a minute; with the ranges it takes two seconds, and the same
weights always give the same graph.  `tools/int8_ranges.py` measures the ranges.

Runs in a process of its own, with the lowest priority:

    python -m image_categorizer_server.inference.packaging.int8_ranges SOURCE VERSION FOLDER
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from pydantic import BaseModel, ConfigDict, Field

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import sample_inputs
from image_categorizer_server.inference.models.export import ONNX_FILE, ExportReport
from image_categorizer_server.inference.models.manifest import (
    Manifest,
    QuantizationRecord,
    read_manifest,
)
from image_categorizer_server.inference.packaging.huggingface import WEIGHTS
from image_categorizer_server.inference.packaging.quantize import OPERATORS, write_version
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

FOLDER = "inference/data/int8"
MAX_DIFFERENCE = 0.1
"""Between confidences of int8 and fp32 for `sample_inputs`: of EfficientNet-Lite0 0.036."""
LOWEST_PRIORITY = 19
Ranges = Mapping[str, tuple[float, float]]
"""The least and the largest value of each activation, by its name in the fp32 graph."""
Corrections = Mapping[str, tuple[float, ...]]
"""What is added to the bias of a node, for each channel, by the name of its output: it undoes the
mean error of int8 (Nagel et al. 2019, arXiv:1906.04721)."""


class RangesFile(BaseModel):
    """The content of a file of ranges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the version that was calibrated; see `digest_of_weights`."""
    calibrated_on: int = Field(ge=1)
    """Number of photographs that showed the ranges."""
    record: QuantizationRecord
    """On these photographs and others."""
    held_out: QuantizationRecord
    """On the others alone."""
    ranges: Ranges
    corrections: Corrections


def shipped_ranges(network: str) -> RangesFile:
    """Returns the ranges of a packaged network."""
    file = resources.files("image_categorizer_server") / FOLDER / f"{network}.json"
    return RangesFile.model_validate_json(file.read_bytes())


def quantize_with_ranges(file: Path, out: Path, ranges: Ranges, corrections: Corrections) -> None:
    """Writes the int8 version of a graph to `out`; blocks for a second.

    Args:
        file: the fp32 graph.
        out: the file to write.
        ranges: of the inputs and outputs of all nodes that `OPERATORS` names.
        corrections: of nodes with a bias.

    Raises:
        OperatorError: the graph has other activations.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load_model(file))
    if missing := activations(graph) - ranges.keys():
        raise OperatorError(f"The shipped ranges lack {min(missing)}: they are of another graph.")
    correct(graph, corrections)
    found = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        graph,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, found),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=OPERATORS,
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(out))


def correct(model: onnx.ModelProto, corrections: Corrections) -> None:
    """Changes the biases of a graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if shifts := corrections.get(node.output[0]):
            bias = constants[node.input[2]]
            values = numpy_helper.to_array(bias) + np.array(shifts, np.float32)
            bias.CopyFrom(numpy_helper.from_array(values, bias.name))


def activations(model: onnx.ModelProto) -> set[str]:
    """Returns the names of what the nodes to quantize read and write, apart from constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in OPERATORS]
    return {name for node in nodes for name in (*node.input, *node.output)} - constants


def digest_of_weights(file: Path) -> str:
    """Returns the hash of the names and values in a file of safetensors, in any order."""
    digest = hashlib.sha256()
    for name, values in sorted(safetensors.numpy.load_file(file).items()):
        digest.update(name.encode() + b"\0" + values.tobytes())
    return digest.hexdigest()


def write_int8_version(source: Path, version: int, folder: Path) -> Manifest:
    """Writes the int8 version of a packaged network into an empty folder; blocks for seconds.

    Args:
        source: the folder of its fp32 version.
        version: the number of the int8 version.
        folder: where to write.

    Raises:
        OperatorError: the ranges are of other weights, or the int8 graph answers too differently.
    """
    fp32 = read_manifest(source)
    shipped = shipped_ranges(fp32.name)
    if digest_of_weights(source / WEIGHTS) != shipped.weights_sha256:
        raise OperatorError(f"The installed weights of {fp32.name} are not those of its ranges.")
    quantize_with_ranges(
        source / ONNX_FILE, folder / ONNX_FILE, shipped.ranges, shipped.corrections
    )
    samples = sample_inputs(fp32.input)
    expected, answer = (
        OnnxRuntime(place / ONNX_FILE, threads=1, runners=1).predict(samples).confidences
        for place in (source, folder)
    )
    if not np.abs(answer - expected).max() <= MAX_DIFFERENCE:
        raise OperatorError(f"The int8 graph of {fp32.name} differs too much from fp32.")
    report = ExportReport(
        accepted=True,
        reason="from shipped ranges",
        localization=fp32.localization,
        cell_offset=fp32.cell_offset,
    )
    return write_version(folder, source / ONNX_FILE, fp32, version, report, shipped.record)


def main() -> None:
    """Makes one version; the last line on standard error names the failure."""
    os.nice(LOWEST_PRIORITY)
    source, version, folder = sys.argv[1:]
    write_int8_version(Path(source), int(version), Path(folder))


if __name__ == "__main__":
    main()
