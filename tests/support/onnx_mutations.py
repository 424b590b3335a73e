"""Folders with an ONNX file and labels in which something is odd, for fuzzing."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny_onnx import KERNELS, SIDE_PX

LABELS = ["ant", "bee", "cat", "dog"]
Tail = list[tuple[str, list[str], dict[str, Any]]]
Change = Callable[[onnx.ModelProto, random.Random], None]
# What stands behind the last matrix product.
TAILS: dict[str, Tail] = {
    "logits": [],
    "softmax": [("Softmax", [], {"axis": 1})],
    "sigmoid": [("Sigmoid", [], {})],
    "sigmoid, reshaped": [("Sigmoid", [], {}), ("Reshape", ["flat"], {})],
    "softmax, unsqueezed": [("Softmax", [], {"axis": 1}), ("Reshape", ["flat"], {})],
    "percent": [("Softmax", [], {"axis": 1}), ("Mul", ["hundred"], {})],
    "sigmoid in percent": [("Sigmoid", [], {}), ("Mul", ["hundred"], {})],
    "log": [("LogSoftmax", [], {"axis": 1})],
    "tanh": [("Tanh", [], {})],
    "relu": [("Relu", [], {})],
    "scaled logits": [("Div", ["hundred"], {})],
}
OPERATORS = [
    "Relu",
    "Sigmoid",
    "Softmax",
    "Exp",
    "Log",
    "Neg",
    "Abs",
    "Tanh",
    "Sqrt",
    "Gemm",
    "Add",
]
OPERATORS += [
    "MatMul",
    "Reshape",
    "Flatten",
    "Identity",
    "Loop",
    "If",
    "Cast",
    "Concat",
    "",
    "Gone",
]


@dataclass(frozen=True)
class Mutated:
    """A folder, and what was done to it."""

    file: Path
    description: str


def plain_model(tail: str) -> onnx.ModelProto:
    """Returns an untrained network with four outputs."""
    steps: Tail = [
        ("Conv", ["kernels", "offsets"], {}),
        ("Relu", [], {}),
        ("GlobalAveragePool", [], {}),
        ("Flatten", [], {"axis": 1}),
        ("Gemm", ["weights", "bias"], {}),
        *TAILS[tail],
    ]
    edges = ["pixels", *(f"t{number}" for number in range(1, len(steps))), "answer"]
    nodes = [
        helper.make_node(operator, [edges[at], *more], [edges[at + 1]], name=f"n{at}", **options)
        for at, (operator, more, options) in enumerate(steps)
    ]
    numbers = np.random.default_rng(5)
    arrays: dict[str, Any] = {
        "kernels": numbers.normal(0, 0.3, (KERNELS, 3, 3, 3)).astype(np.float32),
        "offsets": numbers.normal(0, 0.3, KERNELS).astype(np.float32),
        "weights": numbers.normal(0, 1.5, (KERNELS, len(LABELS))).astype(np.float32),
        "bias": numbers.normal(0, 0.5, len(LABELS)).astype(np.float32),
        "flat": np.array([-1, len(LABELS)], np.int64),
        "hundred": np.array(100, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "mutated",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", len(LABELS)])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def set_fields(message: Any, **fields: Any) -> None:
    """Sets fields of a message."""
    message.MergeFrom(type(message)(**fields))


def _operator(model: onnx.ModelProto, chance: random.Random) -> None:
    set_fields(chance.choice(model.graph.node), op_type=chance.choice(OPERATORS))


def _domain(model: onnx.ModelProto, chance: random.Random) -> None:
    set_fields(
        chance.choice(model.graph.node), domain=chance.choice(["ai.onnx.ml", "com.microsoft", "x"])
    )


def _drop_node(model: onnx.ModelProto, chance: random.Random) -> None:
    del model.graph.node[chance.randrange(len(model.graph.node))]


def _repeat_node(model: onnx.ModelProto, chance: random.Random) -> None:
    model.graph.node.append(chance.choice(model.graph.node))


def _rewire(model: onnx.ModelProto, chance: random.Random) -> None:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    node = chance.choice(model.graph.node)
    at = chance.randrange(len(node.input))
    node.input[at] = chance.choice([*names, "", "nowhere"])


def _fewer_inputs(model: onnx.ModelProto, chance: random.Random) -> None:
    node = chance.choice(model.graph.node)
    del node.input[chance.randrange(len(node.input) + 1) :]


def _no_outputs(model: onnx.ModelProto, chance: random.Random) -> None:
    del chance.choice(model.graph.node).output[:]


def _shape(model: onnx.ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    at = chance.randrange(max(len(tensor.dims), 1))
    if tensor.dims:
        tensor.dims[at] = chance.choice([0, 1, 2, -1, 7, 2**40])


def _kind(model: onnx.ModelProto, chance: random.Random) -> None:
    set_fields(chance.choice(model.graph.initializer), data_type=chance.choice([*range(24), 99]))


def _weights(model: onnx.ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    value = chance.choice([np.nan, np.inf, 0.0, 1e30, -1e-30, 1.0])
    array = numpy_helper.to_array(tensor).copy()
    with np.errstate(all="ignore"):
        array.reshape(-1)[chance.randrange(array.size)] = np.array(value).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _no_bytes(model: onnx.ModelProto, chance: random.Random) -> None:
    chance.choice(model.graph.initializer).ClearField("raw_data")


def _outside(model: onnx.ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    set_fields(tensor, data_location=TensorProto.EXTERNAL)
    location = chance.choice(["labels.txt", "model.onnx", "/etc/hostname", "../x", "", "a\0b", "."])
    tensor.external_data.add(key="location", value=location)
    if chance.random() < 0.7:
        tensor.external_data.add(key="offset", value=chance.choice(["0", "-1", "x", "9" * 30]))


def _input(model: onnx.ModelProto, chance: random.Random) -> None:
    kind = model.graph.input[0].type.tensor_type
    what = chance.randrange(5)
    if what == 0:
        set_fields(kind, elem_type=chance.choice([0, 2, 7, 10, 11, 16, 99]))
    elif what == 1:
        set_fields(
            kind.shape.dim[chance.randrange(4)],
            dim_value=chance.choice([-1, 0, 1, 3, 4, 5000, 2**40]),
        )
    elif what == 2:
        del kind.shape.dim[chance.randrange(4) :]
    elif what == 3:
        model.graph.input[0].ClearField("type")
    else:
        set_fields(model.graph.input[0], name=chance.choice(["", "answer", "t1", "other"]))


def _output(model: onnx.ModelProto, chance: random.Random) -> None:
    value = model.graph.output[0]
    what = chance.randrange(4)
    if what == 0:
        set_fields(value.type.tensor_type, elem_type=chance.choice([0, 2, 7, 10, 11]))
    elif what == 1:
        set_fields(
            value.type.tensor_type.shape.dim[chance.randrange(2)],
            dim_value=chance.choice([0, 1, 3, 7]),
        )
    elif what == 2:
        value.ClearField("type")
    else:
        set_fields(value, name=chance.choice(["", "pixels", "t2", "t4", "other"]))


def _versions(model: onnx.ModelProto, chance: random.Random) -> None:
    if chance.random() < 0.5:
        set_fields(model, ir_version=chance.choice([-1, 0, 1, 3, 4, 9, 99]))
    else:
        set_fields(
            model.opset_import[0],
            version=chance.choice([-1, 0, 1, 7, 8, 9, 11, 12, 13, 18, 21, 999]),
        )


def _tail(model: onnx.ModelProto, chance: random.Random) -> None:
    operator = chance.choice(["Sigmoid", "Softmax", "Tanh", "Exp", "Neg", "Relu", "Abs", "Sqrt"])
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node(operator, ["before"], ["answer"]))


CHANGES: list[Change] = [
    *(_operator, _domain, _drop_node, _repeat_node, _rewire, _fewer_inputs, _no_outputs),
    *(_shape, _kind, _weights, _no_bytes, _outside, _input, _output, _versions, _tail, _tail),
]


def _text(chance: random.Random) -> bytes:
    """Returns a label file with something odd."""
    names: list[Any] = list(LABELS)
    value: Any = chance.choice(
        [
            names,
            dict(enumerate(names)),
            {name: at for at, name in enumerate(names)},
            {"id2label": names},
            {"label2id": {name: at for at, name in enumerate(names)}},
            {str(at + 1): name for at, name in enumerate(names)},
            [[f"n0000000{at}", name] for at, name in enumerate(names)],
            [{"name": name} for name in names],
        ]
    )
    odd: list[Any] = [None, "", 0, -1, 2.5, True, [], {}, "\ud800", "\0", "x" * 10_000, [[]], "ant"]
    if chance.random() < 0.6:
        while isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value[key] = chance.choice(odd)
    text = json.dumps(value)
    content = text.encode(chance.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    return _damaged(content, chance) if chance.random() < 0.3 else content


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Returns bytes of which some are changed, or the end is lacking."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    if chance.random() < 0.3:
        del changed[chance.randrange(len(changed)) :]
    return bytes(changed)


def mutated(folder: Path, seed: int) -> Mutated:
    """Writes a folder that the seed decides, with mutations of the graph or of its labels."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    tail = chance.choice(list(TAILS))
    model, done = plain_model(tail), [tail]
    name, labels = "labels.txt", "\n".join(LABELS).encode()
    what = chance.choice(["graph"] * 5 + ["bytes", "bytes", "labels", "labels", "nothing"])
    if what == "graph":
        for change in chance.choices(CHANGES, k=chance.choice([1, 1, 1, 2, 3])):
            try:
                change(model, chance)
            except Exception:  # noqa: BLE001 - an earlier one took its place
                continue
            done.append(change.__name__)
    content = model.SerializeToString()
    if what == "bytes":
        content = _damaged(content, chance)
    if what == "labels":
        name = chance.choice(["labels.json", "class_to_idx.json", "config.json", "labels.txt"])
        labels = _text(chance)
    (folder / name).write_bytes(labels)
    (folder / "model.onnx").write_bytes(content)
    return Mutated(folder / "model.onnx", ", ".join([what, *done]))
