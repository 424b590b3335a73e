"""Detectors as ONNX files: where boxes and scores are, what they mean, and the graph to serve.

    logits or scores (N, Q, C or C + 1), boxes (N, Q, 4)   as DETR and its kin
    one output (N, 4 + C, A) or (N, A, 5 + C)              as YOLO, with the centre first

Names, metadata and numbers of the graph decide.  What they leave open is for the user to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.detect import CORNERS, Detection, Scores
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce
from image_categorizer_server.inference.models.export import MAX_DIFFERENCE, ONNX_FILE
from image_categorizer_server.inference.packaging.label_files import LabelSet
from image_categorizer_server.inference.packaging.onnx_answers import OVERSHOOT, probe_inputs
from image_categorizer_server.inference.packaging.onnx_file import opset
from image_categorizer_server.inference.packaging.onnx_graph import (
    FLOATS,
    PREFIX,
    Constants,
    Ended,
    Step,
    chain,
    metadata_of,
    own_range,
    shown_output,
    wrapped,
)
from image_categorizer_server.inference.packaging.onnx_input import (
    GraphFacts,
    Preprocessing,
    describe_input,
)
from image_categorizer_server.inference.packaging.onnx_labels import config_field
from image_categorizer_server.inference.packaging.onnx_original import Made, Original, Served
from image_categorizer_server.inference.packaging.onnx_original import write_served as write
from image_categorizer_server.inference.packaging.onnx_ranges import output_range
from image_categorizer_server.inference.packaging.onnx_selftest import (
    own_preprocessing,
    pictures,
    scale,
)
from image_categorizer_server.inference.packaging.selftest_outcome import (
    BOX_OR_SCORE,
    SelfTest,
    row_of,
)
from image_categorizer_server.inference.runtimes.onnx import FEATURES, OUTPUT

BOXES, SCORES = ("pred_boxes", "boxes"), ("logits", "scores")
# model_type of transformers.  Their boxes are centres and sizes, as shares of the input, and each
# object has one.
SOFTMAX_TYPES = frozenset({"detr", "table-transformer", "yolos"})
SIGMOID_TYPES = frozenset(
    {"conditional_detr", "d_fine", "dab-detr", "deformable_detr", "rt_detr", "rt_detr_v2"}
)
MAX_OVERLAP = 0.5
"""IoU of two boxes of a category beyond which they count as one object, as PASCAL VOC has it."""
MAX_PROBES = 12
MIN_SHARE, MAX_SHARE, MIN_PIXELS = 0.05, 1.5, 4.0
"""Between which the largest edge of boxes in shares is, and from where on it counts pixels."""
MAX_INPUTS = 4
"""How far boxes in pixels may reach, in sides of the input."""
MAX_CROSSED = 0.1
"""Share of boxes whose right edge may be left of the left one, or the lower above the upper."""
SUM_ROUNDING = 2e-3
"""By what sums of half precision are off."""
REDUCE_AXES_OPSET = 18
"""From where on the axes of ReduceMax are an input."""
Format = Literal["cxcywh", "xyxy"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a graph has boxes and scores."""

    kind: Literal["queries", "columns", "rows"]
    """Scores and boxes apart; (N, 4 + C, A); (N, A, 5 + C)."""
    outputs: tuple[str, ...]
    """Scores and boxes, or the only one."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the numbers of a graph are."""

    layout: Layout
    scores: Scores
    """What makes scores of them."""
    drops_last: bool
    """Whether the last number is for no object."""
    matrix: NDArray[np.float32]
    """float32 (4, 4): what a box is multiplied by to become left, top, right, bottom as shares."""
    max_overlap: float | None
    labels: int

    def __str__(self) -> str:
        unit = "shares" if abs(self.matrix).max() == 1 else "pixels"
        order = "corners" if self.matrix[2, 0] == 0 else "centre and size"
        last = ", the last for no object" if self.drops_last else ""
        added = "as they are" if self.scores == "none" else f"through {self.scores}"
        once = (
            "each object once"
            if self.max_overlap is None
            else f"boxes of a category that overlap by an IoU above {self.max_overlap:g} count once"
        )
        return f"A detector: boxes are {order} in {unit}; scores {added}{last}; {once}."

    def features(self, raw: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns boxes and scores (N, Q, 4 + C) of what the graph answers for N pictures."""
        boxes, numbers = split(self.layout, raw)
        exact = numbers.astype(np.float64)
        if self.scores == "softmax":
            powers = np.exp(exact - exact.max(-1, keepdims=True))
            exact = powers / powers.sum(-1, keepdims=True)
        elif self.scores == "sigmoid":
            exact = np.exp(-np.logaddexp(0, -exact))
        exact = exact[..., : self.labels]
        return np.concatenate([boxes @ self.matrix, exact], -1).astype(np.float32)

    def tail(self, constants: Constants, version: int) -> Ended:
        """Returns the nodes that make the same of the graph's outputs; see `onnx_graph.Tail`."""
        nodes, (boxes, numbers) = self._apart(constants)
        steps: list[Step] = [("MatMul", [constants("boxes/matrix", self.matrix)], {})]
        nodes += chain(steps, boxes, "boxes/corners", "boxes")
        activation = {"softmax": "Softmax", "sigmoid": "Sigmoid", "none": "Identity"}[self.scores]
        axis = {"axis": 2} if self.scores == "softmax" else {}
        nodes += chain([(activation, [], {**axis})], numbers, "scores/all", "activation")
        kept = constants("scores/kept", np.arange(self.labels), np.int64)
        nodes += chain([("Gather", [kept], {"axis": 2})], "scores/all", "scores/own", "kept")
        nodes.append(
            helper.make_node("Concat", ["boxes/corners", "scores/own"], [FEATURES], axis=2)
        )
        if version >= REDUCE_AXES_OPSET:
            axes = constants("scores/axes", [1], np.int64)
            nodes.append(helper.make_node("ReduceMax", ["scores/own", axes], [OUTPUT], keepdims=0))
        else:
            nodes.append(
                helper.make_node("ReduceMax", ["scores/own"], [OUTPUT], axes=[1], keepdims=0)
            )
        return nodes, {OUTPUT: 2, FEATURES: 3}

    def _apart(self, constants: Constants) -> tuple[list[onnx.NodeProto], tuple[str, str]]:
        """Returns nodes, and the names of the boxes and of the numbers that they make."""
        floats: Step = ("Cast", [], {"to": TensorProto.FLOAT})
        names = [PREFIX + name for name in self.layout.outputs]
        nodes: list[onnx.NodeProto] = []
        for place, name in enumerate(names):
            turn: list[Step] = [("Transpose", [], {"perm": [0, 2, 1]})]
            steps = [floats, *(turn if self.layout.kind == "columns" else [])]
            nodes += chain(steps, name, f"answer/{place}", f"answer{place}")
        if self.layout.kind == "queries":
            return nodes, ("answer/1", "answer/0")
        first = CORNERS + (self.layout.kind == "rows")
        parts = {"boxes/own": np.arange(CORNERS), "scores/raw": first + np.arange(self.labels)}
        for target, indices in parts.items():
            where = constants(f"{target}/where", indices, np.int64)
            nodes += chain([("Gather", [where], {"axis": 2})], "answer/0", target, target)
        if self.layout.kind == "columns":
            return nodes, ("boxes/own", "scores/raw")
        where = constants("object/where", [CORNERS], np.int64)
        nodes += chain([("Gather", [where], {"axis": 2})], "answer/0", "object", "object")
        nodes.append(helper.make_node("Mul", ["scores/raw", "object"], ["scores/both"]))
        return nodes, ("boxes/own", "scores/both")


def split(
    layout: Layout, raw: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns boxes (N, Q, 4) and the numbers of the scores of what a graph answers."""
    if layout.kind == "queries":
        return raw[1], raw[0]
    rows = raw[0].transpose(0, 2, 1) if layout.kind == "columns" else raw[0]
    boxes = rows[..., :CORNERS]
    if layout.kind == "columns":
        return boxes, rows[..., CORNERS:]
    return boxes, rows[..., CORNERS + 1 :] * rows[..., CORNERS : CORNERS + 1]


def find_layout(model: onnx.ModelProto, labels: LabelSet) -> Layout | None:
    """Returns where a detector has boxes and scores; None if the graph is none.

    Raises:
        OperatorError: it is one, but its outputs do not fit the labels.
    """
    count = len(labels.names)
    outputs = {
        value.name: [side.dim_value or None for side in value.type.tensor_type.shape.dim]
        for value in model.graph.output
        if value.type.tensor_type.elem_type in FLOATS
    }
    boxes = [n for n in BOXES if n in outputs and _fits(outputs[n], (None, None, CORNERS))]
    scores = [n for n in SCORES if n in outputs and len(outputs[n]) == 3]
    if len(boxes) == 1 and len(scores) == 1:
        width = outputs[scores[0]][2]
        if width not in (None, count, count + 1):
            raise OperatorError(
                f"{labels.place} has {count} labels, but the graph returns {width} scores for a "
                f"box: {count} are needed, or {count + 1} with one for no object."
            )
        return Layout("queries", (scores[0], boxes[0]))
    shown = ", ".join(shown_output(value) for value in model.graph.output)
    if len(outputs) == 1:
        ((name, sides),) = outputs.items()
        is_columns = _fits(sides, (None, CORNERS + count, None)) and sides[2:] not in ([1], [])
        is_rows = _fits(sides, (None, None, CORNERS + 1 + count)) and sides[1:2] != [1]
        known = sides[1:] != [None, None]
        if is_columns and is_rows and known:
            raise OperatorError(f"{shown} may hold boxes by columns or by rows: export it again.")
        if is_columns and known:
            return Layout("columns", (name,))
        if is_rows and known:
            return Layout("rows", (name,))
    if metadata_of(model).get("task") == "detect":
        raise OperatorError(
            f"The graph is a detector, but {shown} is neither batch x {CORNERS + count} x boxes "
            f"nor batch x boxes x {CORNERS + 1 + count} for {count} labels: export it without "
            "non-maximum suppression (nms=False, end2end=False)."
        )
    return None


def _fits(sides: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    """Whether sides may be what is wanted, as far as they are known."""
    return len(sides) == len(wanted) and all(
        None in (side, other) or side == other for side, other in zip(sides, wanted, strict=True)
    )


def served_detector(
    original: Original, labels: LabelSet, layout: Layout, given: Preprocessing, target: Path
) -> Made:
    """Writes the graph to serve into `target`; returns what it is.

    Args:
        original: the user's graph.
        labels: one for each category.
        layout: where it has boxes and scores.
        given: the user's options.
        target: the folder of the new version.

    Raises:
        OperatorError: it is not clear what its numbers mean, or the graph cannot be served.
    """
    model, source, file = original.model, original.source, original.file
    facts = GraphFacts(source, own_range(model, source), metadata_of(model), is_detector=True)
    spec, summary, card = describe_input(file, facts, given)
    samples = probe_inputs(spec)[:MAX_PROBES]
    raw = original.answers(original.input_of(scale(sample, spec)) for sample in samples)
    known = Known(
        config_field(file, "model_type"),
        facts.is_ultralytics,
        output_range(model, layout.outputs[0]).within(0, 1) and layout.kind == "queries",
        given,
    )
    meaning = decide(layout, raw, len(labels.names), known, spec)
    expected = meaning.features(raw)

    def made(one_by_one: bool) -> onnx.ModelProto:
        def tail(_kinds: Mapping[str, int], constants: Constants) -> Ended:
            return meaning.tail(constants, opset(model))

        return wrapped(model, source, spec, tail, one_by_one=one_by_one)

    wanted = {OUTPUT: expected[..., CORNERS:].max(1), FEATURES: expected}
    is_batched = write(original, made, target / ONNX_FILE, samples, wanted)
    is_plain = source.takes_bytes or source.channels == 1 or given.size_px is not None
    prepare = own_preprocessing(None if is_plain else card, spec)
    served = Served(target / ONNX_FILE)
    rows = []
    for name, shown in pictures():
        theirs = meaning.features(original.answers([original.input_of(prepare(shown))]))[0]
        ours = served([reduce(Pixels.of(shown), spec)])
        first = row_of(name, labels.names, theirs[:, CORNERS:].max(0), ours[OUTPUT][0])
        apart = float(np.abs(theirs - ours[FEATURES][0]).max())
        rows.append(replace(first, difference=max(first.difference, apart)))
    test = SelfTest("the original graph", rows, BOX_OR_SCORE)
    if not test.difference <= MAX_DIFFERENCE:  # also where it is not a number
        raise OperatorError(
            f"{test}\nThe model is not added: {BOX_OR_SCORE} differs from that of the original "
            f"graph by {test.difference:.2g}, more than {MAX_DIFFERENCE:g}."
        )
    detection = Detection(scores=meaning.scores, max_overlap=meaning.max_overlap)
    return Made(
        spec, "none", detection, is_batched, [str(labels), summary, str(meaning)], str(test)
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the numbers of a graph."""

    model_type: str
    """Of a config.json; empty if there is none."""
    is_ultralytics: bool
    are_scores: bool
    """Whether its operators cannot answer scores outside [0, 1]."""
    given: Preprocessing

    @property
    def is_of_transformers(self) -> bool:
        """Whether transformers knows what boxes mean."""
        return self.model_type in SOFTMAX_TYPES | SIGMOID_TYPES


def decide(
    layout: Layout,
    raw: Sequence[NDArray[np.float32]],
    labels: int,
    known: Known,
    spec: InputSpec,
) -> Meaning:
    """Returns what the numbers of a graph are.

    Args:
        layout: where boxes and scores are.
        raw: what it answers for different pictures.
        labels: how many categories there are.
        known: what else is known.
        spec: the size of its input.

    Raises:
        OperatorError: it cannot be decided, or the user says something else than the graph.
    """
    boxes, numbers = split(layout, raw)
    if boxes.shape[:-1] != numbers.shape[:-1] or boxes.shape[-1] != CORNERS:
        raise OperatorError(
            f"The graph answers {numbers.shape[1:]} scores for {boxes.shape[1:]} boxes."
        )
    extra = numbers.shape[-1] - labels
    if extra not in (0, 1):
        raise OperatorError(
            f"There are {labels} labels, but the graph has {numbers.shape[-1]} scores for a box."
        )
    scores = _scores(numbers, known)
    _check_width(numbers, scores, extra)
    size = spec.width_px, spec.height_px
    matrix = _matrix(_format(boxes, known), 1.0 if _are_shares(boxes, known, size) else size)
    overlap = None if known.is_of_transformers else MAX_OVERLAP
    return Meaning(layout, scores, extra == 1, matrix, overlap, labels)


def _scores(numbers: NDArray[np.float32], known: Known) -> Scores:
    low, high = float(numbers.min()), float(numbers.max())
    found = f"The graph answers numbers from {low:.3g} to {high:.3g} for scores"
    is_unit, stated = low >= 0 and high <= 1 + OVERSHOOT, known.given.activation
    if known.are_scores:
        if stated not in (None, "none"):
            raise OperatorError("The graph already answers scores from 0 to 1: omit --activation.")
        return "none"
    if stated is not None:
        if stated == "none" and not is_unit:
            raise OperatorError(f"{found}, which are none: choose --activation softmax or sigmoid.")
        return stated
    if known.is_of_transformers:
        return "softmax" if known.model_type in SOFTMAX_TYPES else "sigmoid"
    if known.is_ultralytics and is_unit:
        return "none"
    rest = "choose --activation none if they are scores already, or" if is_unit else "choose"
    raise OperatorError(
        f"{found}, and nothing says what makes scores of them: {rest} --activation sigmoid, or "
        "softmax if the last of them is for no object."
    )


def _check_width(numbers: NDArray[np.float32], scores: Scores, extra: int) -> None:
    """Passes numbers of which one more than labels is there if it is for no object.

    Raises:
        OperatorError: it is not there, or means something else.
    """
    count = numbers.shape[-1]
    if scores == "softmax" and not extra:
        raise OperatorError(
            f"Softmax of a detector needs one number for no object beside {count} labels, but the "
            f"graph answers {count}: choose --activation sigmoid, or remove the label of no object."
        )
    sums = numbers.sum(-1)
    is_whole = bool((np.abs(sums - 1) <= SUM_ROUNDING).all())
    if extra and (scores == "sigmoid" or (scores == "none" and not is_whole)):
        raise OperatorError(
            f"The graph answers {count} scores for {count - 1} labels, which do not sum to 1, so "
            "the last is not for no object: add its label."
        )


def _format(boxes: NDArray[np.float32], known: Known) -> Format:
    """Returns whether boxes are centres and sizes, or corners."""
    rows = boxes.reshape(-1, CORNERS)
    rows = rows[rows.any(-1)]  # some networks answer zeros where there is no object
    crossed = float((rows[:, 2:] < rows[:, :2]).any(-1).mean()) if len(rows) else 0.0
    empty = float((rows[:, 2:] < 0).any(-1).mean()) if len(rows) else 0.0
    stated = known.given.boxes
    if known.is_of_transformers or known.is_ultralytics:
        if stated == "xyxy":
            raise OperatorError("The network answers centres and sizes of boxes: omit --boxes.")
        return "cxcywh"
    if stated == "xyxy" and crossed > MAX_CROSSED:
        raise OperatorError(
            f"--boxes xyxy cannot be: the right or lower edge of {crossed:.0%} of the boxes would "
            "be on the wrong side. Is it --boxes cxcywh?"
        )
    if stated == "cxcywh" and empty > MAX_CROSSED:
        raise OperatorError(
            f"--boxes cxcywh cannot be: {empty:.0%} of the boxes would have a negative size. Is it "
            "--boxes xyxy?"
        )
    if stated is None:
        raise OperatorError(
            "Nothing says whether the boxes of the graph are centres and sizes or corners: choose "
            "--boxes cxcywh or --boxes xyxy."
        )
    return stated


def _are_shares(boxes: NDArray[np.float32], known: Known, size: tuple[int, int]) -> bool:
    """Returns whether boxes are shares of the input; else they are in its pixels."""
    if known.is_of_transformers:
        return True
    largest = float(np.abs(boxes).max())
    if MIN_SHARE <= largest <= MAX_SHARE:
        return True
    if MIN_PIXELS <= largest <= MAX_INPUTS * max(size):
        return False
    raise OperatorError(
        f"The edges of the boxes reach {largest:.3g}, which is neither a share of the picture nor "
        f"pixels of {size[0]} x {size[1]}: export boxes as shares from 0 to 1."
    )


def _matrix(boxes: Format, size: float | tuple[int, int]) -> NDArray[np.float32]:
    """Returns what boxes (N, 4) are multiplied by to become corners as shares."""
    made = np.eye(CORNERS)
    if boxes == "cxcywh":
        made = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])
    scale_of_edges = np.broadcast_to(np.asarray(size, float), 2)
    matrix: NDArray[np.float32] = (made / np.tile(scale_of_edges, 2)).astype(np.float32)
    return matrix
