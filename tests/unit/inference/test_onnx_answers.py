"""What the numbers of an ONNX graph are, wherever its softmax or sigmoid stands."""

import numpy as np
import onnx
import onnxruntime
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.warmup import warm_up
from image_categorizer_server.inference.packaging.huggingface import Labels
from image_categorizer_server.inference.packaging.onnx import copy_onnx
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

SIDE_PX = 16
INPUTS = list(np.random.default_rng(4).integers(0, 256, (3, SIDE_PX, SIDE_PX, 3)).astype(np.uint8))
NETWORK = [
    "maps = Conv(pixels, kernels)",
    "positive = Relu(maps)",
    "pooled = GlobalAveragePool(positive)",
    "flat = Flatten<axis = 1>(pooled)",
    "logits = Gemm(flat, weights, bias)",
]
THEN = "then_branch = a () => (float[n, 3] y) { y = Sigmoid(logits) }"
ELSE = "else_branch = b () => (float[n, 3] z) { z = Identity(logits) }"
HALVES = [
    "left = Slice(logits, zero, two, one)",
    "right = Slice(logits, two, four, one)",
    "first = Softmax<axis = 1>(left)",
]


def write(folder, body, labels, *, weights=None, bias=0.0, shape=("n", 3, SIDE_PX, SIDE_PX)):
    """Writes a network whose end is written in ONNX's text form, from `logits` to `answer`."""
    numbers = np.random.default_rng(9)
    if weights is None:
        weights = numbers.normal(0, 2, (6, len(labels)))
    arrays = {
        "kernels": numbers.normal(0, 0.4, (6, 3, 3, 3)).astype(np.float32),
        "weights": weights.astype(np.float32),
        "bias": np.full(weights.shape[1], bias, np.float32),
        "hundred": np.array(100, np.float32),
        "unit": np.array(1, np.float32),
        "rows": np.array([-1, weights.shape[1]], np.int64),
        "four_rows": np.zeros((4, weights.shape[1]), np.float32),
        "one_row": np.zeros((1, weights.shape[1]), np.float32),
        **{n: np.array([at], np.int64) for at, n in enumerate(("zero", "one", "two", "_", "four"))},
    }
    sides = ", ".join(map(str, shape))
    head = f"g (float[{sides}] pixels) => (float[{shape[0]}, wide] answer)"
    text = "\n".join(['<ir_version: 8, opset_import: ["" : 13]>', head, "{", *NETWORK, *body, "}"])
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(labels))
    return folder / "model.onnx"


def added(file, tmp_path, **given):
    """Returns what is served for INPUTS, what the file itself answers, the manifest, the lines."""
    folder = tmp_path / "version"
    folder.mkdir(parents=True)
    given = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), **given)
    _, summary = copy_onnx(file, folder, Labels("mine", 1), given)
    manifest = read_manifest(folder)
    runtime = OnnxRuntime(folder / "model.onnx", 1, 1)
    warm_up(runtime, manifest, 2)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    values = [(x / 255).astype(np.float32).transpose(2, 0, 1)[None] for x in INPUTS]
    theirs = np.stack([session.run(None, {"pixels": value})[0][0].ravel() for value in values])
    return runtime.predict(INPUTS).confidences, theirs, manifest, summary


CONFIDENCES = {
    "softmax": ["answer = Softmax<axis = 1>(logits)"],
    "sigmoid": ["answer = Sigmoid(logits)"],
    "sigmoid then reshape": ["p = Sigmoid(logits)", "answer = Reshape(p, rows)"],
    "softmax then log and exp": ["p = LogSoftmax<axis = 1>(logits)", "answer = Exp(p)"],
    "softmax written out": [
        "e = Exp(logits)",
        "s = ReduceSum<keepdims = 1>(e, one)",
        "answer = Div(e, s)",
    ],
    "sigmoid written out": [
        "m = Neg(logits)",
        "e = Exp(m)",
        "d = Add(e, unit)",
        "answer = Div(unit, d)",
    ],
    "the mean of two softmaxes": [
        "a = Softmax<axis = 1>(logits)",
        "n = Neg(logits)",
        "b = Softmax<axis = 1>(n)",
        "answer = Mean(a, b)",
    ],
    "two heads": [
        *HALVES,
        "second = Softmax<axis = 1>(right)",
        "answer = Concat<axis = 1>(first, second)",
    ],
    "a softmax head and a sigmoid head": [
        *HALVES,
        "second = Sigmoid(right)",
        "answer = Concat<axis = 1>(first, second)",
    ],
    "softmax in 1 x 1": [
        "p = Softmax<axis = 1>(logits)",
        "q = Unsqueeze(p, two)",
        "answer = Identity(q)",
    ],
}


@pytest.mark.parametrize("kind", CONFIDENCES)
def test_confidences_are_served_as_they_are(tmp_path, kind):
    file = write(tmp_path / "source", CONFIDENCES[kind], ["a", "b", "c", "d"])
    ours, theirs, manifest, summary = added(file, tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-5)
    sums_to_one = np.allclose(theirs.sum(-1), 1, atol=1e-4)
    assert manifest.activation == ("softmax" if sums_to_one else "sigmoid")
    assert "\nThe graph answers confidences: " in summary


@pytest.mark.parametrize(
    ("first", "activation"), [("Softmax<axis = 1>", "softmax"), ("Sigmoid", "sigmoid")]
)
def test_percentages_are_divided_by_100(tmp_path, first, activation):
    body = [f"p = {first}(logits)", "answer = Mul(p, hundred)"]
    ours, theirs, manifest, summary = added(write(tmp_path / "s", body, ["a", "b", "c"]), tmp_path)
    assert ours == pytest.approx(theirs / 100, abs=1e-5)
    assert manifest.activation == activation
    assert "\nThe graph answers percentages" in summary


def test_logits_between_0_and_1_do_not_pass_for_confidences(tmp_path):
    weights = np.full((6, 3), 0.01)
    file = write(
        tmp_path / "s", ["answer = Identity(logits)"], ["a", "b", "c"], weights=weights, bias=1 / 3
    )
    ours, theirs, manifest, _ = added(file, tmp_path)
    assert theirs.min() > 0
    assert theirs.max() < 1
    assert theirs.sum(-1) == pytest.approx(1, abs=0.2)
    assert ours == pytest.approx(np.full((3, 3), 1 / 3), abs=1e-3)
    assert manifest.activation == "softmax"


def test_logarithms_of_confidences_become_confidences(tmp_path):
    file = write(tmp_path / "s", ["answer = LogSoftmax<axis = 1>(logits)"], ["a", "b", "c"])
    ours, theirs, _, _ = added(file, tmp_path)
    assert ours == pytest.approx(np.exp(theirs), abs=1e-5)


UNDECIDED = {
    "tanh": ["answer = Tanh(logits)"],
    "relu": ["answer = Relu(logits)"],
    "sums of sigmoids": ["p = Sigmoid(logits)", "answer = MatMul(p, square)"],
    "sigmoid in an If": ["c = Cast<to = 9>(unit)", f"answer = If(c) <{THEN}, {ELSE}>"],
}


@pytest.mark.parametrize("kind", UNDECIDED)
def test_what_cannot_be_decided_is_asked(tmp_path, kind):
    file = write(tmp_path / "s", UNDECIDED[kind], ["a", "b", "c"])
    model = onnx.load_model(file)
    model.graph.initializer.append(
        numpy_helper.from_array(np.eye(3, dtype=np.float32) / 2, "square")
    )
    onnx.save_model(model, file)
    with pytest.raises(OperatorError, match="choose --activation") as refused:
        added(file, tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_none_softmax_and_sigmoid_can_be_said(tmp_path):
    file = write(tmp_path / "s", UNDECIDED["sigmoid in an If"], ["a", "b", "c"])
    for given in ("none", "softmax", "sigmoid"):
        ours, theirs, manifest, _ = added(file, tmp_path / given, activation=given)
        powers = np.exp(theirs)
        expected = {
            "none": theirs,
            "softmax": powers / powers.sum(-1, keepdims=True),
            "sigmoid": 1 / (1 + 1 / powers),
        }[given]
        assert ours == pytest.approx(expected, abs=1e-5)
        assert manifest.activation == ("softmax" if given == "softmax" else "sigmoid")


@pytest.mark.parametrize(
    ("body", "given", "words"),
    [
        (
            "answer = Softmax<axis = 1>(logits)",
            "sigmoid",
            "as softmax gives them: omit --activation",
        ),
        ("answer = Sigmoid(logits)", "softmax", "as sigmoid gives them: omit --activation"),
        ("answer = LogSoftmax<axis = 1>(logits)", "sigmoid", "logarithms of confidences"),
        ("answer = Identity(logits)", "none", "which are no confidences: choose --activation"),
    ],
)
def test_confidences_never_get_a_second_activation(tmp_path, body, given, words):
    file = write(tmp_path / "s", [body], ["a", "b", "c"])
    with pytest.raises(OperatorError, match=words):
        added(file, tmp_path, activation=given)


def test_of_logits_and_confidences_the_confidences_are_served(tmp_path):
    file = write(tmp_path / "s", ["answer = Identity(logits)"], ["a", "b", "c"])
    model = onnx.load_model(file)
    model.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["shares"]))
    model.graph.output.append(helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["n", 3]))
    onnx.save_model(model, file)
    ours, theirs, manifest, _ = added(file, tmp_path)
    assert ours == pytest.approx(1 / (1 + np.exp(-theirs)), abs=1e-5)
    assert manifest.activation == "sigmoid"


def test_confidences_beside_logits_are_refused(tmp_path):
    body = [*HALVES, "answer = Concat<axis = 1>(first, right)"]
    file = write(tmp_path / "s", body, ["a", "b", "c", "d"])
    with pytest.raises(OperatorError, match="some are confidences and others are not"):
        added(file, tmp_path)


@pytest.mark.parametrize("body", ["answer = Sigmoid(logits)", "answer = Identity(logits)"])
def test_one_number_for_two_labels_is_the_probability_of_the_second(tmp_path, body):
    weights = np.random.default_rng(2).normal(0, 2, (6, 1))
    file = write(tmp_path / "s", [body], ["cat", "dog"], weights=weights)
    ours, theirs, manifest, summary = added(file, tmp_path)
    p = theirs if "Sigmoid" in body else 1 / (1 + np.exp(-theirs))
    assert ours == pytest.approx(np.concatenate([1 - p, p], -1), abs=1e-5)
    assert manifest.activation == "softmax"
    assert "'dog' gets p, 'cat' gets 1 - p" in summary


def test_one_logit_for_one_label_takes_a_sigmoid(tmp_path):
    weights = np.random.default_rng(2).normal(0, 2, (6, 1))
    file = write(tmp_path / "s", ["answer = Identity(logits)"], ["dog"], weights=weights)
    ours, theirs, manifest, _ = added(file, tmp_path)
    assert ours == pytest.approx(1 / (1 + np.exp(-theirs)), abs=1e-5)
    assert manifest.activation == "sigmoid"
    with pytest.raises(OperatorError, match="softmax of one number is always 1"):
        added(file, tmp_path / "other", activation="softmax")


def test_a_config_that_says_multi_label_asks_for_a_sigmoid(tmp_path):
    file = write(tmp_path / "s", ["answer = Identity(logits)"], ["a", "b", "c"])
    (file.parent / "config.json").write_text('{"problem_type": "multi_label_classification"}')
    ours, theirs, _, _ = added(file, tmp_path)
    assert ours == pytest.approx(1 / (1 + np.exp(-theirs)), abs=1e-5)


def test_a_graph_for_one_picture_is_called_once_for_each(tmp_path):
    shape = (1, 3, SIDE_PX, SIDE_PX)
    body = ["t = Concat<axis = 0>(logits, one_row)", "answer = Slice(t, zero, one, zero)"]
    file = write(tmp_path / "s", body, ["a", "b", "c"], shape=shape)
    ours, theirs, _, summary = added(file, tmp_path)
    powers = np.exp(theirs)
    assert ours == pytest.approx(powers / powers.sum(-1, keepdims=True), abs=1e-5)
    assert "only for one picture at a time" in summary


def test_a_quantized_graph_whose_scale_depends_on_the_batch_is_called_once_for_each(tmp_path):
    file = write(tmp_path / "s", ["answer = Identity(logits)"], ["a", "b", "c"])
    small = file.with_name("small.onnx")
    quantize_dynamic(file, small, weight_type=QuantType.QUInt8)
    small.replace(file)
    ours, theirs, manifest, summary = added(file, tmp_path)
    powers = np.exp(theirs)
    assert ours == pytest.approx(powers / powers.sum(-1, keepdims=True), abs=1e-5)
    assert manifest.precision == "int8"
    assert "only for one picture at a time" in summary


def test_a_graph_for_four_pictures_is_refused(tmp_path):
    body = ["answer = Add(logits, four_rows)"]
    file = write(tmp_path / "s", body, ["a", "b", "c"], shape=(4, 3, SIDE_PX, SIDE_PX))
    with pytest.raises(OperatorError, match="export it with a dynamic batch size instead of 4"):
        added(file, tmp_path)


def test_answers_that_hardly_depend_on_the_picture_are_pointed_out(tmp_path):
    file = write(
        tmp_path / "s", ["answer = Identity(logits)"], ["a", "b", "c"], weights=np.zeros((6, 3))
    )
    assert "answers nearly the same for all" in added(file, tmp_path)[3]
