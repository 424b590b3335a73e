"""Wraps a user's ONNX graph into the graph that is served: bytes in, confidences out.

    input uint8 (N, H, W, 3) ─▶ cast, scale, transpose ─▶ user's graph ─▶ softmax or sigmoid
                                                                    ─▶ confidences (N, C)

User files are untrusted: tensors outside the file are not read, and only operators that are part of
ONNX Runtime are run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, compose, external_data_helper, helper, numpy_helper

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT

CHANNELS = 3
MIN_OPSET = 8  # the first in which Mul and Add broadcast, and Cast takes its type as a number
KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
PREFIX = "body/"
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
Layout = Literal["NCHW", "NHWC"]
FinalStep = Literal["softmax", "sigmoid", "none"]
"""The step from the graph's output to confidences; `none` if the output is confidences."""
Attributes = dict[str, int | list[int]]
Step = tuple[str, list[str], Attributes]
"""Operator, further inputs and attributes of a node."""


@dataclass(frozen=True, slots=True)
class PictureInput:
    """The single input of a graph."""

    name: str
    layout: Layout
    element: int
    """`TensorProto` number: float32, float16 or uint8."""
    height_px: int | None
    """None if the graph takes any size."""
    width_px: int | None
    batch: int | None
    """The fixed batch size of the graph; None if it takes any."""

    @property
    def takes_bytes(self) -> bool:
        """Whether the graph takes bytes and scales them itself."""
        return self.element == int(TensorProto.UINT8)


def read_graph(file: Path) -> onnx.ModelProto:
    """Returns the graph.

    Raises:
        OperatorError: not an ONNX file, or it has external tensors or unknown operators.
    """
    try:
        model = onnx.load_model(file, load_external_data=False)
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except (DecodeError, ValueError):
        raise OperatorError(f"{file} is not an ONNX file.") from None
    if not model.graph.node or not model.graph.output:
        raise OperatorError(f"{file} is not an ONNX file.")
    if any(map(external_data_helper.uses_external_data, tensors(model))):
        raise OperatorError(
            f"{file} keeps its weights in other files; save everything in one: "
            "onnx.save(onnx.load(FILE), NEW_FILE)."
        )
    functions = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        is_known = node.domain in KNOWN_DOMAINS or (node.domain, node.op_type) in functions
        if not is_known:
            raise OperatorError(
                f"{file} uses the operator {node.domain}.{node.op_type}, which ONNX Runtime does "
                "not have; export the network without it."
            )
    if opset(model) < MIN_OPSET:
        raise OperatorError(
            f"{file} uses ONNX opset {opset(model)}; export it with opset {MIN_OPSET} or later."
        )
    return model


def tensors(model: onnx.ModelProto) -> list[TensorProto]:
    """Returns the initializers and the constants of all nodes, including those in subgraphs."""
    found: list[TensorProto] = []
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            found.extend(graph.initializer)
            nodes.extend(graph.node)
        while nodes:
            for attribute in nodes.pop().attribute:
                found.extend([attribute.t] if attribute.HasField("t") else [])
                found.extend(attribute.tensors)
                graphs.extend([attribute.g] if attribute.HasField("g") else [])
                graphs.extend(attribute.graphs)
    return found


def opset(model: onnx.ModelProto) -> int:
    """Returns the version of the standard ONNX operators."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def picture_input(model: onnx.ModelProto) -> PictureInput:
    """Returns the graph's input.

    Raises:
        OperatorError: the graph has several inputs, or its input is not a batch of RGB pictures.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise OperatorError(f"The graph has {len(inputs)} inputs ({names}); it must have one.")
    (value,) = inputs
    kind = value.type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
    layout = _layout(sides)
    if layout is None or kind.elem_type not in FLOATS | {TensorProto.UINT8}:
        shape = " x ".join("any" if side is None else str(side) for side in sides)
        raise OperatorError(
            f"The graph's input '{value.name}' is {element_name(kind.elem_type)} {shape or '?'}, "
            "not pictures: float32, float16 or uint8, batch x 3 x height x width or "
            "batch x height x width x 3."
        )
    height, width = sides[2:] if layout == "NCHW" else sides[1:3]
    return PictureInput(value.name, layout, kind.elem_type, height, width, sides[0])


def _layout(sides: Sequence[int | None]) -> Layout | None:
    if len(sides) != 4:
        return None
    if sides[1] == CHANNELS:
        return "NCHW"
    if sides[3] == CHANNELS:
        return "NHWC"
    return "NCHW" if sides[1] is None else None


def element_name(element: int) -> str:
    """Returns the common name of a type, such as `float32`."""
    try:
        return str(helper.tensor_dtype_to_np_dtype(element))
    except KeyError:
        return "of an unknown type"


def choose_output(model: onnx.ModelProto, categories: int) -> str:
    """Returns the name of the output with one number per category.

    Raises:
        OperatorError: there is none, or more than one.
    """
    shapes = {
        value.name: [side.dim_value or None for side in value.type.tensor_type.shape.dim]
        for value in model.graph.output
        if value.type.tensor_type.elem_type in FLOATS
    }
    fitting = [name for name, sides in shapes.items() if sides[1:] in ([categories], [None], [])]
    named = [name for name in fitting if shapes[name][1:] == [categories]]
    chosen = named or fitting
    if len(chosen) == 1:
        return chosen[0]
    shown = ", ".join(
        f"{name} {' x '.join(str(side or 'any') for side in sides)}"
        for name, sides in shapes.items()
    )
    raise OperatorError(
        f"There are {categories} labels, but "
        f"{'no' if not chosen else 'more than one'} output of the graph is "
        f"batch x {categories}: {shown or 'no output has floats'}."
    )


def last_operator(model: onnx.ModelProto, output: str) -> str:
    """Returns the operator that computes an output; skips casts and quantization."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    while (node := made_by.get(output)) is not None:
        if node.op_type not in ("Identity", "Cast", "DequantizeLinear", "QuantizeLinear"):
            return node.op_type
        output = node.input[0]
    return ""


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph computes with 8-bit integers."""
    marks = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"}
    return any(node.op_type in marks for node in model.graph.node)


def served_graph(
    model: onnx.ModelProto, source: PictureInput, output: str, spec: InputSpec, step: FinalStep
) -> onnx.ModelProto:
    """Returns a graph that takes a batch of bytes of any size and returns confidences.

    Args:
        model: the user's graph; it is not changed.
        source: its input.
        output: the name of its output.
        spec: scale and bias of the input, unless the graph takes bytes.
        step: the step to append to the output.
    """
    served: onnx.ModelProto = compose.add_prefix(model, PREFIX)
    graph = served.graph
    constants = {tensor.name for tensor in graph.initializer}
    before, scaling = _before(source, spec)
    after = _after(next(v for v in graph.output if v.name == PREFIX + output), step)
    if source.batch is not None:
        _free_batch(graph, source.batch)
    nodes = [*before, *graph.node, *after]
    kept = [value for value in graph.input if value.name in constants]
    size: list[str | int | None] = ["batch", spec.height_px, spec.width_px, CHANNELS]
    del graph.input[:], graph.output[:], graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(scaling)
    graph.input.extend([helper.make_tensor_value_info(INPUT, TensorProto.UINT8, size), *kept])
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", None]))
    return served


def _free_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Makes reshapes to a fixed batch size accept any; exports with a fixed size have many.

    Other operators may still need the fixed size: the caller has to test the result.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Reshape" and (tensor := constants.get(node.input[1])) is not None:
            shape = numpy_helper.to_array(tensor).copy()
            if shape.size > 1 and shape[0] == batch:
                shape[0] = -1 if (shape > 0).all() else 0  # 0: the size of the input
                tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def _before(
    source: PictureInput, spec: InputSpec
) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    steps: list[Step] = []
    scaling: list[TensorProto] = []
    if not source.takes_bytes:
        steps = [
            ("Cast", [], {"to": TensorProto.FLOAT}),
            ("Mul", ["scale"], {}),
            ("Add", ["bias"], {}),
        ]
        scaling = [
            numpy_helper.from_array(np.array(values, np.float32), name)
            for name, values in (("scale", spec.scale), ("bias", spec.bias))
        ]
    if source.layout == "NCHW":
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    if source.element == TensorProto.FLOAT16:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT16}))
    return _chain(steps or [("Identity", [], {})], INPUT, PREFIX + source.name, "scaling"), scaling


def _after(value: onnx.ValueInfoProto, step: FinalStep) -> list[onnx.NodeProto]:
    steps: list[Step] = []
    if value.type.tensor_type.elem_type != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    if step == "softmax":
        steps.append(("Softmax", [], {"axis": 1}))
    elif step == "sigmoid":
        steps.append(("Sigmoid", [], {}))
    return _chain(steps or [("Identity", [], {})], value.name, OUTPUT, "answer")


def _chain(steps: Sequence[Step], first: str, last: str, stem: str) -> list[onnx.NodeProto]:
    """Returns nodes that lead from the value `first` to the value `last`."""
    names = [first, *(f"{stem}/{number}" for number in range(1, len(steps))), last]
    nodes = []
    for number, (operator, more, attributes) in enumerate(steps):
        inputs, outputs = [names[number], *more], [names[number + 1]]
        node = helper.make_node(operator, inputs, outputs, name=f"{stem}/{operator}_{number}")
        node.attribute.extend(
            helper.make_attribute(name, value) for name, value in sorted(attributes.items())
        )
        nodes.append(node)
    return nodes
