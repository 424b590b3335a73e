"""An ONNX file with a tiny untrained network, as people export theirs, in 5 KB."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 16
KERNELS = 6


Step = tuple[str, list[str], dict[str, Any]]
# Initializers are called what our own wrapper calls things.
NETWORK: list[Step] = [
    ("Conv", ["kernels"], {}),
    ("Relu", [], {}),
    ("GlobalAveragePool", [], {}),
    ("Reshape", ["rows"], {}),
    ("MatMul", ["bias"], {}),
]


def write_tiny_onnx(
    folder: Path,
    labels: Sequence[str],
    *,
    shape: Sequence[str | int] = ("n", 3, SIDE_PX, SIDE_PX),
    element: int = TensorProto.FLOAT,
    last: str = "",
    reshape_to: int = 0,
    fix_rows: bool = False,
    names: tuple[str, str] = ("pixel_values", "logits"),
    name: str = "model.onnx",
    opset: int = 18,
) -> Path:
    """Writes the file and its labels; returns the file.

    Args:
        folder: made where it is not there.
        labels: one for each output.
        shape: of the input.
        element: of the input and the weights.
        last: Softmax or Sigmoid; none gives logits.
        reshape_to: a batch size that the graph's inside names; 0: any.
        fix_rows: whether the graph's inside insists on a batch of 1.
        names: of input and output.
        name: of the file.
        opset: of ONNX's operators.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    floats = TensorProto.FLOAT if element == TensorProto.UINT8 else element
    graph = helper.make_graph(
        _nodes(_steps(element, shape[-1] == 3, last, fix_rows), *names),
        "tiny",
        [helper.make_tensor_value_info(names[0], element, shape)],
        [helper.make_tensor_value_info(names[1], floats, [shape[0], len(labels)])],
        _constants(floats, len(labels), reshape_to),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save_model(model, folder / name)
    return folder / name


def _steps(element: int, is_channels_last: bool, last: str, fix_rows: bool) -> list[Step]:
    return [
        *([("Cast", [], {"to": TensorProto.FLOAT})] if element == TensorProto.UINT8 else []),
        *([("Transpose", [], {"perm": [0, 3, 1, 2]})] if is_channels_last else []),
        *NETWORK,
        *([("Slice", ["zero", "one", "zero"], {})] if fix_rows else []),
        *([(last, [], {})] if last else []),
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
