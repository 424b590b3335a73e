"""A graph that calls another for each picture of a batch, where that one takes only one at a time.

input uint8 (N, H, W, 3) ─▶ Scan: picture (H, W, 3) ─▶ the graph ─▶ its rows ─▶ outputs (N, …)
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PREFIX = "one/"
PICTURE, SHAPE, FIRST = "picture", "picture/shape", "row/first"


def one_by_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a graph with the same input and outputs that takes a batch of any size.

    Args:
        model: takes a batch of one picture of bytes, and answers floats; it is not changed.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    (source,) = graph.input
    size = [side.dim_value for side in source.type.tensor_type.shape.dim][1:]
    outputs = [(output.name, len(output.type.tensor_type.shape.dim)) for output in graph.output]
    name = source.name
    add_prefix(graph, PREFIX)
    body = helper.make_graph(
        [
            helper.make_node("Reshape", [PICTURE, SHAPE], [PREFIX + name], name="picture/one"),
            *graph.node,
            *(
                helper.make_node("Gather", [PREFIX + output, FIRST], [f"row/{output}"], axis=0)
                for output, _ in outputs
            ),
        ],
        "one_picture",
        [helper.make_tensor_value_info(PICTURE, TensorProto.UINT8, size)],
        [
            helper.make_tensor_value_info(f"row/{output}", TensorProto.FLOAT, [None] * (rank - 1))
            for output, rank in outputs
        ],
        [
            *graph.initializer,
            numpy_helper.from_array(np.array([1, *size], np.int64), SHAPE),
            numpy_helper.from_array(np.array(0, np.int64), FIRST),
        ],
        sparse_initializer=list(graph.sparse_initializer),
    )
    names = [output for output, _ in outputs]
    scan = helper.make_node("Scan", [name], names, name=PREFIX, body=body, num_scan_inputs=1)
    del graph.input[:], graph.output[:], graph.node[:], graph.value_info[:]
    del graph.initializer[:], graph.sparse_initializer[:]
    graph.node.append(scan)
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.UINT8, ["batch", *size]))
    graph.output.extend(
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *[None] * (rank - 1)])
        for output, rank in outputs
    )
    return made


def add_prefix(graph: onnx.GraphProto, prefix: str) -> None:
    """Puts a prefix in front of all names of a graph and of the graphs in it."""

    def prefixed(name: str) -> str:
        return prefix + name if name else name

    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = prefixed(value.name)
    for tensor in graph.initializer:
        tensor.name = prefixed(tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = prefixed(sparse.values.name)
    del graph.quantization_annotation[:]
    for node in graph.node:
        node.name = prefixed(node.name)
        node.input[:] = [prefixed(name) for name in node.input]
        node.output[:] = [prefixed(name) for name in node.output]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                add_prefix(inner, prefix)
