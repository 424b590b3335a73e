"""What a graph can answer at all: the range of its output, by the operators that compute it.

A network may answer numbers between 0 and 1 for all pictures tried, by luck.  The operators decide:
the result of a sigmoid cannot leave that range, that of a matrix product can.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

Source = Literal["linear", "bounded", "constant", "mixed", "unknown"]
MAX_NODES = 5_000
"""Between the output and the last linear operators; real graphs have a dozen."""
MAX_KEEPING = 20
MAX_CONSTANTS = 1_000_000
LINEAR = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "ConvInteger", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "FusedMatMul", "FusedGemm", "FusedConv", "MatMulNBits"}
    | {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearAdd"}
    | {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"}
)
# Keep every number, or pick some, or take means of some.
KEEPING = frozenset(
    {"Identity", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
    | {"Slice", "Gather", "Split", "Expand", "Tile", "Dropout", "QuantizeLinear"}
    | {"DequantizeLinear", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin"}
    | {"GlobalMaxPool", "GatherElements", "GatherND", "Round"}
)
BOUNDED = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "HardSigmoid": (0.0, 1.0)} | {
    "Tanh": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Hardmax": (0.0, 1.0),
    "LogSoftmax": (-math.inf, 0.0),
    "DynamicQuantizeLinear": (0.0, math.inf),  # a scale, by which a product is multiplied again
}


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the largest number that a value may have, and why."""

    low: float
    high: float
    source: Source
    """`linear`: the result of a linear operator; `mixed`: only some of its parts are."""

    def mapped(self, function: Callable[[float], float]) -> "Range":
        """Returns the range after a function that only rises or only falls."""
        ends = [_quiet(function, self.low), _quiet(function, self.high)]
        if any(math.isnan(end) for end in ends):
            return UNKNOWN
        return Range(min(ends), max(ends), self.source)

    def within(self, low: float, high: float) -> bool:
        """Whether no number can be outside, apart from rounding."""
        slack = 1e-3 * max(abs(low), abs(high))
        return self.low >= low - slack and self.high <= high + slack


UNKNOWN = Range(-math.inf, math.inf, "unknown")
LINEAR_RANGE = Range(-math.inf, math.inf, "linear")


def output_range(model: onnx.ModelProto, output: str) -> Range:
    """Returns the range of an output."""
    return _Ranges(model).of(output)


def last_operator(model: onnx.ModelProto, output: str) -> str:
    """Returns the operator that computes an output; skips those that keep numbers."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for _ in range(MAX_KEEPING):
        node = makers.get(output)
        if node is None or node.op_type not in KEEPING or not node.input:
            break
        output = node.input[0]
    node = makers.get(output)
    return "" if node is None else node.op_type


def _quiet(function: Callable[[float], float], number: float) -> float:
    try:
        return function(number)
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan


class _Ranges:
    """Finds ranges from an output back to the last linear operators, without recursion."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._known: dict[str, Range] = {}

    def of(self, wanted: str) -> Range:
        waiting = [wanted]
        for _ in range(MAX_NODES):
            if not waiting:
                break
            name = waiting[-1]
            node = self._makers.get(name)
            lacking = (
                [] if node is None else [n for n in self._needed(node) if n not in self._known]
            )
            if name in self._known or (set(lacking) & set(waiting)):
                waiting.pop()  # the second: a circle, which ONNX Runtime refuses
            elif lacking:
                waiting.extend(lacking)
            else:
                self._known[name] = self._computed(name, node)
                waiting.pop()
        return self._known.get(wanted, UNKNOWN)

    def _needed(self, node: onnx.NodeProto) -> Sequence[str]:
        if node.op_type in LINEAR or node.op_type in BOUNDED:
            return ()
        if node.op_type in KEEPING:
            return node.input[:1]
        return [name for name in node.input if name]

    def _computed(self, name: str, node: onnx.NodeProto | None) -> Range:
        if node is None or node.op_type == "Constant":
            return self._constant(name, node)
        if node.op_type in LINEAR:
            return UNKNOWN if self._adds_confidences(node) else LINEAR_RANGE
        if node.op_type in BOUNDED:
            return Range(*BOUNDED[node.op_type], "bounded")
        given = [self._known.get(n, UNKNOWN) for n in self._needed(node)]
        rule = RULES.get(node.op_type)
        if node.op_type in KEEPING and given:
            return given[0]
        if rule is None or not given:
            return UNKNOWN
        try:
            found = rule(
                given, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            )
        except (IndexError, TypeError, ValueError):
            return UNKNOWN
        return UNKNOWN if math.isnan(found.low) or math.isnan(found.high) else found

    def _adds_confidences(self, node: onnx.NodeProto) -> bool:
        """Whether a linear operator reads confidences, as one that groups categories does."""
        maker = self._makers.get(node.input[0]) if node.input else None
        for _ in range(MAX_KEEPING):
            if maker is None or maker.op_type not in KEEPING or not maker.input:
                break
            maker = self._makers.get(maker.input[0])
        return maker is not None and maker.op_type in ("Softmax", "Sigmoid")

    def _constant(self, name: str, node: onnx.NodeProto | None) -> Range:
        tensor = self._tensors.get(name)
        if node is not None:
            tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if tensor is None or math.prod(tensor.dims) > MAX_CONSTANTS:
            return UNKNOWN
        try:
            values = np.asarray(numpy_helper.to_array(tensor), np.float64)
        except (TypeError, ValueError):
            return UNKNOWN
        if not values.size or not np.isfinite(values).all():
            return UNKNOWN
        return Range(float(values.min()), float(values.max()), "constant")


def _joined(sources: Sequence[Source]) -> Source:
    """Returns the source of a result of several ranges: the one that bounds it least."""
    order: Sequence[Source] = ("mixed", "unknown", "linear", "bounded", "constant")
    return next(source for source in order if source in sources)


def _add(given: Sequence[Range], _: object) -> Range:
    source = _joined([r.source for r in given])
    return Range(sum(r.low for r in given), sum(r.high for r in given), source)


def _negative(r: Range) -> Range:
    return Range(-r.high, -r.low, r.source)


def _multiply(given: Sequence[Range], _: object) -> Range:
    first, second = given
    ends = [_times(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    return Range(min(ends), max(ends), _joined([first.source, second.source]))


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _reciprocal(r: Range) -> Range:
    if r.low <= 0:
        return Range(-math.inf, math.inf, r.source)
    return r.mapped(lambda x: 1 / x)


def _clip(given: Sequence[Range], attributes: Mapping[str, object]) -> Range:
    first, *ends = given
    low = ends[0].low if ends else float(str(attributes.get("min", -math.inf)))
    high = ends[1].high if len(ends) > 1 else float(str(attributes.get("max", math.inf)))
    is_cut = low > first.low or high < first.high
    source: Source = "bounded" if is_cut and math.isfinite(low + high) else first.source
    return Range(min(max(first.low, low), high), max(min(first.high, high), low), source)


def _relu(given: Sequence[Range], _: object) -> Range:
    return Range(max(0.0, given[0].low), max(0.0, given[0].high), given[0].source)


def _concat(given: Sequence[Range], _: object) -> Range:
    sources = {r.source for r in given} - {"constant"}
    source = _joined([r.source for r in given]) if len(sources) <= 1 else "mixed"
    return Range(min(r.low for r in given), max(r.high for r in given), source)


def _mean(given: Sequence[Range], _: object) -> Range:
    joined = _add(given, _)
    return Range(joined.low / len(given), joined.high / len(given), joined.source)


def _power(given: Sequence[Range], _: object) -> Range:
    base, exponent = given
    if base.low < 0 or exponent.low != exponent.high or exponent.low < 0:
        return UNKNOWN
    return base.mapped(lambda x: x**exponent.low)


RULES: dict[str, Callable[[Sequence[Range], Mapping[str, object]], Range]] = {
    "Add": _add,
    "Sum": _add,
    "Sub": lambda given, _: _add([given[0], _negative(given[1])], _),
    "Mul": _multiply,
    "Div": lambda given, _: _multiply([given[0], _reciprocal(given[1])], _),
    "Neg": lambda given, _: _negative(given[0]),
    "Reciprocal": lambda given, _: _reciprocal(given[0]),
    "Exp": lambda given, _: given[0].mapped(math.exp),
    "Sqrt": lambda given, _: given[0].mapped(math.sqrt),
    "Pow": _power,
    "Clip": _clip,
    "Relu": _relu,
    "Concat": _concat,
    "Mean": _mean,
    "Max": lambda given, _: Range(
        max(r.low for r in given), max(r.high for r in given), _joined([r.source for r in given])
    ),
    "Min": lambda given, _: Range(
        min(r.low for r in given), min(r.high for r in given), _joined([r.source for r in given])
    ),
}
