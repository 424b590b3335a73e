"""An ONNX file with a tiny untrained network, like those that users export, in 5 KB."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 16
KERNELS = 6


Step = tuple[str, list[str], dict[str, Any]]
# Initializers have the same names as those of our wrapper.
NETWORK: list[Step] = [
    ("Conv", ["kernels"], {}),
    ("Relu", [], {}),
    ("GlobalAveragePool", [], {}),
    ("Reshape", ["rows"], {}),
    ("MatMul", ["bias"], {}),
]


@dataclass(frozen=True)
class TinyGraph:
    """What a tiny graph looks like."""

    shape: Sequence[str | int] = ("n", 3, SIDE_PX, SIDE_PX)
    """Of the input."""
    element: int = TensorProto.FLOAT
    """Type of the input and the weights."""
    last: str = ""
    """Softmax or Sigmoid; empty for logits."""
    reshape_to: int = 0
    """A fixed batch size inside the graph; 0 for any."""
    fix_rows: bool = False
    """Whether the graph works only with a batch of 1."""
    names: tuple[str, str] = ("pixel_values", "logits")
    """Of input and output."""
    opset: int = 18


def write_tiny_onnx(
    folder: Path,
    labels: Sequence[str],
    graph: TinyGraph = TinyGraph(),
    *,
    name: str = "model.onnx",
) -> Path:
    """Writes the file and its labels; returns the file.

    Args:
        folder: created if it does not exist.
        labels: one for each output.
        graph: the network.
        name: of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    floats = TensorProto.FLOAT if graph.element == TensorProto.UINT8 else graph.element
    input_name, output_name = graph.names
    onnx_graph = helper.make_graph(
        _nodes(_steps(graph), input_name, output_name),
        "tiny",
        [helper.make_tensor_value_info(input_name, graph.element, graph.shape)],
        [helper.make_tensor_value_info(output_name, floats, [graph.shape[0], len(labels)])],
        _constants(floats, len(labels), graph.reshape_to),
    )
    opset = helper.make_opsetid("", graph.opset)
    model = helper.make_model(onnx_graph, opset_imports=[opset], ir_version=8)
    onnx.save_model(model, folder / name)
    return folder / name


def _steps(graph: TinyGraph) -> list[Step]:
    takes_bytes, is_channels_last = graph.element == TensorProto.UINT8, graph.shape[-1] == 3
    return [
        *([("Cast", [], {"to": TensorProto.FLOAT})] if takes_bytes else []),
        *([("Transpose", [], {"perm": [0, 3, 1, 2]})] if is_channels_last else []),
        *NETWORK,
        *([("Slice", ["zero", "one", "zero"], {})] if graph.fix_rows else []),
        *([(graph.last, [], {})] if graph.last else []),
    ]


def _nodes(steps: list[Step], first: str, last: str) -> list[onnx.NodeProto]:
    edges = [first, *(f"t{number}" for number in range(1, len(steps))), last]
    return [
        helper.make_node(operator, [taken, *more], [given], name=f"{operator}_{taken}", **options)
        for (operator, more, options), taken, given in zip(steps, edges, edges[1:], strict=False)
    ]


def _constants(floats: int, outputs: int, reshape_to: int) -> list[TensorProto]:
    random = np.random.default_rng(7)
    kind = helper.tensor_dtype_to_np_dtype(floats)
    arrays = {
        "kernels": random.normal(0, 0.5, (KERNELS, 3, 3, 3)).astype(kind),
        "bias": random.normal(0, 2, (KERNELS, outputs)).astype(kind),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "rows": np.array([reshape_to or -1, KERNELS], np.int64),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]
