"""Wraps a user's ONNX graph into the graph that is served: bytes in, confidences out.

    input uint8 (N, H, W, 3) ─▶ transpose, cast, scale ─▶ user's graph ─▶ what it lacks
                                                                    ─▶ confidences (N, C)

A graph that answers right only for one picture at a time is called once for each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec, per_channel
from image_categorizer_server.inference.models.one_by_one import add_prefix
from image_categorizer_server.inference.models.one_by_one import one_by_one as called_for_each
from image_categorizer_server.inference.packaging.onnx_answers import Answers
from image_categorizer_server.inference.packaging.onnx_file import opset
from image_categorizer_server.inference.packaging.onnx_ranges import output_range
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT

RGB, GREY = 3, 1
PREFIX = "body/"
MIN_SCAN_OPSET = 9
MAX_FIRST_NODES = 8
BYTE = 255.0
MIN_IR_VERSION = 4  # the first in which initializers need not be inputs
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey, by ITU-R BT.601, as Pillow has it."""
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
PICTURES = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8})
Layout = Literal["NCHW", "NHWC"]
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
    channels: int = RGB
    """3, or 1 for grey."""
    is_bgr: bool = False
    """Whether blue comes first."""

    @property
    def takes_bytes(self) -> bool:
        """Whether the graph takes bytes and scales them itself."""
        return self.element == int(TensorProto.UINT8)


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the custom metadata."""
    return {entry.key: entry.value for entry in model.metadata_props}


def picture_input(model: onnx.ModelProto) -> PictureInput:
    """Returns the graph's input.

    Raises:
        OperatorError: the graph has several inputs, or its input is not a batch of pictures.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise OperatorError(
            f"The graph has {len(inputs)} inputs ({names or 'none'}); it must have one."
        )
    (value,) = inputs
    kind = value.type.tensor_type
    sides = [side.dim_value if side.dim_value > 0 else None for side in kind.shape.dim]
    found = _layout(sides)
    if found is None or kind.elem_type not in PICTURES:
        shape = " x ".join("any" if side is None else str(side) for side in sides)
        raise OperatorError(
            f"The graph's input '{value.name}' is {element_name(kind.elem_type)} {shape or '?'}, "
            "not pictures: float32, float16 or uint8, batch x 3 x height x width or "
            "batch x height x width x 3 (1 instead of 3 for grey)."
        )
    layout, channels = found
    height, width = sides[2:] if layout == "NCHW" else sides[1:3]
    return PictureInput(
        name=value.name,
        layout=layout,
        element=kind.elem_type,
        height_px=height,
        width_px=width,
        batch=sides[0],
        channels=channels,
        is_bgr=metadata_of(model).get("Image.BitmapPixelFormat", "").startswith("Bgr"),
    )


def _layout(sides: Sequence[int | None]) -> tuple[Layout, int] | None:
    """Returns where the channels are, and their number."""
    if len(sides) != 4:
        return None
    for channels in (RGB, GREY):
        if sides[1] == channels:
            return "NCHW", channels
        if sides[3] == channels:
            return "NHWC", channels
    return ("NCHW", RGB) if sides[1] is None else None


def element_name(element: int) -> str:
    """Returns the common name of a type, such as `float32`."""
    try:
        return str(helper.tensor_dtype_to_np_dtype(element))
    except (KeyError, TypeError):
        return "of an unknown type"


def possible_outputs(model: onnx.ModelProto) -> dict[str, int | None]:
    """Returns the outputs of floats, with the number of values for one picture; None if unknown.

    Sides of 1 do not count: some networks answer batch x categories x 1 x 1.
    """
    found: dict[str, int | None] = {}
    for value in model.graph.output:
        kind = value.type.tensor_type
        if kind.elem_type in FLOATS:
            sides = [side.dim_value for side in kind.shape.dim][1:]
            wide = [side for side in sides if side != 1]
            if len(wide) <= 1 and all(side > 0 for side in sides):
                found[value.name] = wide[0] if wide else 1
            elif len(wide) <= 1 and (sides or not kind.HasField("shape")):
                found[value.name] = None
            if kind.HasField("shape") and len(kind.shape.dim) == 1:
                found[value.name] = 1
    return found


def choose_output(model: onnx.ModelProto, labels: int) -> str:
    """Returns the name of the output with one number per category.

    One number is enough for two categories: the probability of the second.

    Of several outputs, the only one with confidences counts.

    Raises:
        OperatorError: there is none, or more than one.
    """
    widths = possible_outputs(model)
    for wanted in ([labels], [1] if labels == 2 else [], [None]):
        fitting = [name for name, width in widths.items() if width in wanted]
        if len(fitting) > 1:  # logits and confidences, perhaps: the confidences
            proven = [name for name in fitting if output_range(model, name).within(0, 1)]
            fitting = proven if len(proven) == 1 else fitting
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    shown = ", ".join(shown_output(value) for value in model.graph.output)
    some = "more than one" if fitting else "no"
    remedy = "; export it with one of them" if fitting else ""
    raise OperatorError(
        f"There are {labels} labels, but {some} output of the graph is batch x {labels} floats: "
        f"{shown}{remedy}."
    )


def shown_output(value: onnx.ValueInfoProto) -> str:
    """Returns the name, type and shape of an output."""
    kind = value.type.tensor_type
    sides = " x ".join(str(side.dim_value or "any") for side in kind.shape.dim)
    return f"{value.name} {element_name(kind.elem_type)} {sides or '?'}"


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph computes with 8-bit integers."""
    marks = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"}
    return any(node.op_type in marks for node in model.graph.node)


def scales_by_batch(model: onnx.ModelProto) -> bool:
    """Whether an answer depends on the company: dynamic quantization has one scale for a batch."""
    return any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node)


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What stands around a user's graph."""

    source: PictureInput
    """Its input."""
    output: str
    """The name of its output."""
    spec: InputSpec
    """Scale and bias of the input, unless the graph takes bytes."""
    answers: Answers
    """What its output lacks to be confidences."""


def served_graph(
    model: onnx.ModelProto, wrapping: Wrapping, *, one_by_one: bool = False
) -> onnx.ModelProto:
    """Returns a graph that takes a batch of bytes of any size and returns confidences.

    Args:
        model: the user's graph; it is not changed.
        wrapping: what to add.
        one_by_one: whether to call the graph once for each picture of a batch.
    """
    name = PREFIX + wrapping.output

    def tail(kinds: Mapping[str, int], constants: Constants) -> Ended:
        return _after(name, OUTPUT, kinds[name], wrapping.answers, constants), {OUTPUT: 2}

    return wrapped(model, wrapping.source, wrapping.spec, tail, one_by_one=one_by_one)


def wrapped(
    model: onnx.ModelProto,
    source: PictureInput,
    spec: InputSpec,
    tail: "Tail",
    *,
    one_by_one: bool = False,
) -> onnx.ModelProto:
    """Returns a graph that takes a batch of bytes of any size.

    Args:
        model: the user's graph; it is not changed.
        source: its input.
        spec: scale and bias of the input, unless the graph takes bytes.
        tail: makes what stands behind it.
        one_by_one: whether to call the graph once for each picture of a batch.
    """
    served = onnx.ModelProto()
    served.CopyFrom(model)
    served.ir_version = max(served.ir_version, MIN_IR_VERSION)
    graph = served.graph
    add_prefix(graph, PREFIX)
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.output}
    constants = Constants()
    before = _before(INPUT, source, spec, constants)
    after, ranks = tail(kinds, constants)
    if source.batch is not None and not one_by_one:
        _free_batch(graph, source.batch)
    nodes = [*before, *graph.node, *after]
    batch: str | int = 1 if one_by_one else "batch"
    del graph.input[:], graph.output[:], graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.tensors)
    size = [batch, spec.height_px, spec.width_px, RGB]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, size))
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *[None] * (rank - 1)])
        for name, rank in ranks.items()
    )
    return called_for_each(served) if one_by_one else served


def can_scan(model: onnx.ModelProto, source: PictureInput) -> bool:
    """Whether the graph can be called once for each picture."""
    return source.batch in (None, 1) and opset(model) >= MIN_SCAN_OPSET


class Constants:
    """Collects the constants of a wrapping."""

    def __init__(self) -> None:
        self.tensors: list[TensorProto] = []

    def __call__(self, name: str, values: object, kind: type[np.generic] = np.float32) -> str:
        """Adds a constant; returns its name."""
        self.tensors.append(numpy_helper.from_array(np.array(values, kind), name))
        return name


Ended = tuple[list[onnx.NodeProto], dict[str, int]]
Tail = Callable[[Mapping[str, int], Constants], Ended]
"""Takes the types of the user's outputs, whose names begin with `PREFIX`, and what collects
constants; returns nodes, and the rank of each output that they make."""


def _free_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Makes reshapes to a fixed batch size accept any; exports with a fixed size have many.

    Other operators may still need the fixed size: the caller has to test the result.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        is_reshape = node.op_type == "Reshape" and len(node.input) > 1
        if is_reshape and (tensor := constants.get(node.input[1])) is not None:
            shape = numpy_helper.to_array(tensor).copy()
            if shape.ndim == 1 and shape.size > 1 and shape[0] == batch:
                shape[0] = -1 if (shape > 0).all() else 0  # 0: the size of the input
                tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def _before(
    first: str, source: PictureInput, spec: InputSpec, constants: Constants
) -> list[onnx.NodeProto]:
    steps: list[Step] = []
    to_planes: Step = ("Transpose", [], {"perm": [0, 3, 1, 2]})
    has_planes = source.layout == "NCHW" and source.channels == RGB
    if has_planes:
        steps.append(to_planes)
    if _is_scaled(source):
        # Grey bytes are rounded, because Cast cuts.
        half = 0.5 if source.takes_bytes else 0.0
        scale, bias = per_channel(spec.scale), per_channel([number + half for number in spec.bias])
        if not has_planes:
            scale, bias = scale.ravel(), bias.ravel()
        steps += [
            ("Cast", [], {"to": TensorProto.FLOAT}),
            ("Mul", [constants("scale", scale)], {}),
            ("Add", [constants("bias", bias)], {}),
        ]
    if source.channels == GREY:
        steps.append(("MatMul", [constants("luma", [[part] for part in LUMA])], {}))
    elif source.is_bgr or spec.colour == "bgr":
        reverse = constants("bgr", [2, 1, 0], np.int64)
        steps.append(("Gather", [reverse], {"axis": 1 if has_planes else 3}))
    if source.layout == "NCHW" and not has_planes:
        steps.append(to_planes)
    if source.element != (TensorProto.FLOAT if _is_scaled(source) else TensorProto.UINT8):
        steps.append(("Cast", [], {"to": source.element}))
    return chain(steps or [("Identity", [], {})], first, PREFIX + source.name, "scaling")


def _is_scaled(source: PictureInput) -> bool:
    """Whether the steps before the graph compute with floats."""
    return not source.takes_bytes or source.channels == GREY


def _after(
    first: str, last: str, element: int, answers: Answers, constants: Constants
) -> list[onnx.NodeProto]:
    steps: list[Step] = []
    if element != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    steps.append(("Reshape", [constants("answer/shape", [-1, answers.width], np.int64)], {}))
    if answers.is_percent:
        steps.append(("Mul", [constants("percent", 0.01)], {}))
    if answers.step == "softmax":
        steps.append(("Softmax", [], {"axis": 1}))
    elif answers.step == "sigmoid":
        steps.append(("Sigmoid", [], {}))
    if not answers.completes:
        return chain(steps, first, last, "answer")
    nodes = chain(steps, first, "answer/second", "answer")
    one = constants("answer/all", 1.0)
    inverse = helper.make_node("Sub", [one, "answer/second"], ["answer/rest"], name="answer/Sub")
    # Rounding may take the sum above 1.
    positive = helper.make_node("Relu", ["answer/rest"], ["answer/first"], name="answer/Relu")
    both = helper.make_node(
        "Concat", ["answer/first", "answer/second"], [last], name="answer/Concat", axis=1
    )
    return [*nodes, inverse, positive, both]


def chain(steps: Sequence[Step], first: str, last: str, stem: str) -> list[onnx.NodeProto]:
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


def own_range(model: onnx.ModelProto, source: PictureInput) -> float | None:
    """Returns the largest number of a picture for a graph that scales its input; None if unknown.

    Networks of Keras often hold their preprocessing: they first divide by 255 or 127.5, or subtract
    a mean.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    name = source.name
    for _ in range(MAX_FIRST_NODES):
        users = [node for node in model.graph.node if name in node.input]
        if len(users) != 1 or not users[0].output:
            return None
        (node,) = users
        if node.op_type not in ("Transpose", "Cast", "Identity", "Reshape"):
            tensor = constants.get(next((n for n in node.input if n != name), ""))
            is_swapped = node.input[0] != name and node.op_type in ("Sub", "Div")
            if tensor is None or is_swapped:
                return None
            return _range_before(node.op_type, numpy_helper.to_array(tensor).ravel())
        name = node.output[0]
    return None


def _range_before(operator: str, values: NDArray[np.generic]) -> float | None:
    numbers = np.asarray(values, np.float64)
    if not 0 < numbers.size <= RGB or not np.isfinite(numbers).all():
        return None
    if operator in ("Mul", "Div"):
        divisors = numbers if operator == "Div" else 1 / np.where(numbers == 0, np.inf, numbers)
        return BYTE if ((divisors > 120) & (divisors < 260)).all() else None
    if operator not in ("Sub", "Add"):
        return None
    means = numbers if operator == "Sub" else -numbers
    if ((means > 80) & (means < 160)).all():
        return BYTE
    return 1.0 if numbers.size == RGB and ((means > 0.3) & (means < 0.6)).all() else None
