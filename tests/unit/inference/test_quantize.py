"""Quantization: int8 versions and their answers, refusals, and what is measured."""

import json

import numpy as np
import onnx
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.metrics import interval_95
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.models.export import ensure_export
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.manifest import (
    CALIBRATION_FILE,
    MANIFEST_FILE,
    CategoryEntry,
    damage,
    describe_file,
    digest_of,
    read_manifest,
)
from image_categorizer_server.inference.packaging.evaluate import (
    Comparison,
    labelled_pictures,
    pictures_in,
)
from image_categorizer_server.inference.packaging.quantize import (
    Quantizer,
    check_loss,
    nodes_only_for_features,
    version_to_quantize,
)
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.conftest import EXPORTS
from tests.support.pictures import jpeg
from tests.support.tiny_onnx import write_tiny_onnx
from tests.unit.conftest import CATEGORIES, LIMITS, add
from tests.unit.inference.test_onnx import add_onnx


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(24):
        (folder / f"{seed:02}.jpg").write_bytes(jpeg(seed=seed))
    return folder


@pytest.fixture
def quantizer(repository):
    def make(max_loss_points=100.0, **settings):
        messages = []
        made = Quantizer(
            repository,
            Decoder(LIMITS),
            ModelSettings(cache_path=EXPORTS, **settings),
            max_loss_points,
            on_step=lambda step, done, total: messages.append(step),
            say=messages.append,
        )
        return made, messages

    return make


def found(repository, name="mine", version=None):
    return version_to_quantize(repository.scan(), name, version)


def answers(folder, inputs):
    return OnnxRuntime(folder / "model.onnx", 1, 1).predict(inputs).confidences


def test_quantize_adds_an_int8_version(repository, tmp_path, pictures, quantizer):
    first, _ = add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    make, messages = quantizer()
    made = make.quantize(found(repository), pictures, None)
    folder = first.parent / "2"
    manifest = read_manifest(folder)
    assert manifest == made
    assert (manifest.version, manifest.format, manifest.precision) == (2, "onnx", "int8")
    before = read_manifest(first)
    assert manifest.origin == f"int8 of mine version 1, {before.digest}; model.onnx"
    assert manifest.digest != before.digest
    assert (manifest.categories, manifest.input) == (before.categories, before.input)
    assert damage(folder, manifest) == ""
    inputs = list(np.random.default_rng(2).integers(0, 256, (9, 16, 16, 3)).astype(np.uint8))
    assert answers(folder, inputs) == pytest.approx(answers(first, inputs), abs=0.1)
    assert {"Reading", "Exporting", "Calibrating", "Comparing", "Timing"} <= set(messages)
    both = [each for each in messages if "equal to fp32 on 24 pictures without labels" in each]
    assert [each.partition(":")[0] for each in both] == [
        "Ranges by percentile",
        "Ranges by min-max",
    ]
    assert f"Ranges by {made.quantization.ranges} are kept." in messages
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def write_spot_finder(folder):
    """Writes a network that knows pictures with a white spot: by the largest of few activations."""
    folder.mkdir()
    (folder / "labels.txt").write_text("plain\nspot\n")
    kernels, head = np.zeros((64, 3, 1, 1), np.float32), np.zeros((64, 2), np.float32)
    kernels[0], head[0] = 1 / 3, (-8, 8)
    shifts = np.zeros(64, np.float32)
    shifts[0] = 2  # so no activation is negative
    bias = np.array([16, -16], np.float32)
    constants = {"kernels": kernels, "shifts": shifts, "head": head, "bias": bias}
    constants["rows"] = np.array([-1, 64])
    nodes = [
        helper.make_node("Conv", ["pixel_values", "kernels", "shifts"], ["a"], name="conv"),
        helper.make_node("MaxPool", ["a"], ["b"], name="max", kernel_shape=[64, 64]),
        helper.make_node("Reshape", ["b", "rows"], ["c"], name="flat"),
        helper.make_node("MatMul", ["c", "head"], ["d"], name="head"),
        helper.make_node("Add", ["d", "bias"], ["logits"], name="add"),
    ]
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


def test_the_ranges_that_lose_less_are_kept(repository, tmp_path, quantizer):
    """A percentile cuts off what few pixels of one picture say, and its answer flips."""
    add_onnx(repository, write_spot_finder(tmp_path / "source"))
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(40):
        picture = Image.new("RGB", (64, 64), (20 + number % 4,) * 3)
        if number == 39:
            picture.paste((255, 255, 255), (31, 31, 33, 33))
        picture.save(folder / f"{number:02}.png")
    make, messages = quantizer()
    made = make.quantize(found(repository), folder, None)
    shown = [each for each in messages if each.startswith("Ranges by")]
    assert "100.0 %" not in shown[0]
    assert "100.0 %" in shown[1]
    assert shown[2] == "Ranges by min-max are kept."
    assert (made.quantization.ranges, made.quantization.int8_top_1) == ("min-max", 40)


def test_an_int8_version_keeps_the_temperature_and_its_record(
    repository, tmp_path, pictures, quantizer
):
    first, _ = add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    before = read_manifest(first)
    (first / CALIBRATION_FILE).write_text("{}")
    files = before.files | {CALIBRATION_FILE: describe_file(first / CALIBRATION_FILE)}
    changed = {"files": files, "digest": digest_of(files), "temperature": 1.5}
    changed["architecture"] = "efficientnet_lite0"  # whose weights the int8 version does not have
    calibrated = before.model_copy(update=changed)
    (first / MANIFEST_FILE).write_text(calibrated.model_dump_json())
    made = quantizer()[0].quantize(found(repository), pictures, None)
    assert (made.temperature, made.architecture) == (1.5, "")
    assert made.files[CALIBRATION_FILE] == files[CALIBRATION_FILE]
    assert damage(first.parent / "2", made) == ""


def test_scaling_and_activation_stay_float(repository, tmp_path, pictures, quantizer):
    add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    quantizer()[0].quantize(found(repository), pictures, None)
    model = onnx.load_model(tmp_path / "models" / "mine" / "2" / "model.onnx")
    made_by = {output: node for node in model.graph.node for output in node.output}
    floats = {
        node.op_type
        for node in model.graph.node
        if all(made_by[i].op_type != "DequantizeLinear" for i in node.input if i in made_by)
    }
    whole = {
        node.op_type
        for node in model.graph.node
        if any(made_by[i].op_type == "DequantizeLinear" for i in node.input if i in made_by)
    }
    assert {"Mul", "Add", "Cast"} <= floats
    assert {"Conv", "MatMul"} <= whole
    softmax = made_by["confidences"]
    assert softmax.op_type == "Softmax"
    weights = {t.data_type for t in model.graph.initializer if len(t.dims) == 4}
    assert weights == {TensorProto.INT8}


@pytest.mark.slow
async def test_a_transformers_model_is_quantized_and_served_as_int8(
    repository, tiny, pictures, quantizer
):
    import asyncio

    folder = add(repository, tiny)
    made = await asyncio.to_thread(
        quantizer()[0].quantize, found(repository, "tiny"), pictures, None
    )
    loader = Loader(Decoder(LIMITS), InferenceSettings(max_micro_batch_size=2), ModelSettings())
    model = await loader.load(folder.parent / "2", made)
    assert (model.runtime.name, model.runtime.precision) == ("onnx", "int8")
    assert (model.ref.version, made.licence) == (2, read_manifest(folder).licence)
    _, report = await ensure_export(folder, read_manifest(folder), EXPORTS, 60)
    assert model.localizer.grid.offset == report.cell_offset != 0
    await model.batcher.stop()


def test_a_loss_that_is_too_large_publishes_nothing(repository, tmp_path, pictures, quantizer):
    add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    make, _ = quantizer(max_loss_points=-1.0)  # even no loss is too much
    with pytest.raises(OperatorError) as refused:
        make.quantize(found(repository), pictures, None)
    assert "0 pictures lost, -1 points allow -1; nothing was published" in str(refused.value)
    assert "provide labelled pictures with --evaluate" in str(refused.value)
    assert repository.latest("mine") == 1
    assert [file.name for file in (tmp_path / "models").iterdir()] == ["mine"]


def test_labels_are_used_to_compare_accuracy(repository, tmp_path, pictures, quantizer):
    add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    labelled = tmp_path / "labelled"
    for number, file in enumerate(sorted(pictures.iterdir())):
        target = labelled / CATEGORIES[number % 3] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    make, messages = quantizer()
    make.quantize(found(repository), pictures, labelled)
    sentence = next(sentence for sentence in messages if "Top-1" in sentence)
    assert "right on 24 labelled pictures: fp32 " in sentence
    make, _ = quantizer(max_loss_points=-101)
    with pytest.raises(OperatorError, match="Provide more calibration pictures, or raise"):
        make.quantize(found(repository), pictures, labelled)
    make, _ = quantizer(quantize_min_pictures=25)
    with pytest.raises(OperatorError, match=r"has too few labelled pictures \(24\)"):
        make.quantize(found(repository), pictures, labelled)
    make, _ = quantizer()
    (labelled / "ant" / "00.jpg").write_bytes(b"no image")
    with pytest.raises(OperatorError, match=r"00\.jpg cannot be decoded as an image"):
        make.quantize(found(repository), pictures, labelled)


def test_too_few_pictures_are_refused_and_other_files_skipped(
    repository, tmp_path, pictures, quantizer
):
    add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    make, messages = quantizer(quantize_min_pictures=25)
    with pytest.raises(
        OperatorError, match=r"too few calibration pictures \(24\): provide at least 25"
    ):
        make.quantize(found(repository), pictures, None)
    with pytest.raises(OperatorError, match="is not a folder"):
        make.quantize(found(repository), tmp_path / "nowhere", None)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "notes.txt").write_text("no image")
    (mixed / ".hidden").write_text("not looked at")
    with pytest.raises(OperatorError, match=r"too few calibration pictures \(0\)"):
        make.quantize(found(repository), mixed, None)
    for file in pictures.iterdir():
        (mixed / file.name).write_bytes(file.read_bytes())
    make, messages = quantizer()
    make.quantize(found(repository), mixed, None)
    assert f"Skipped 1 files in {mixed} that are not images." in messages


def test_calibration_pictures_are_sampled_evenly(repository, tmp_path, pictures, quantizer):
    add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    make, messages = quantizer(quantize_max_pictures=16)
    make.quantize(found(repository), pictures, None)
    assert messages.count("Reading") == 16


def test_the_newest_fp32_version_is_quantized_by_default(repository, tmp_path, pictures, quantizer):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    add_onnx(repository, file)
    quantizer()[0].quantize(found(repository), pictures, None)
    assert found(repository).version == 1
    with pytest.raises(OperatorError, match="mine version 2 is already int8"):
        found(repository, version=2)
    with pytest.raises(OperatorError, match="There is no model mine version 3"):
        found(repository, version=3)
    with pytest.raises(OperatorError, match="There is no model nope. Run"):
        found(repository, "nope")


def test_nodes_that_only_the_features_need_are_not_quantized():
    nodes = [
        helper.make_node("Relu", ["input"], ["map"], name="shared"),
        helper.make_node("Softmax", ["map"], ["confidences"], name="answer"),
        helper.make_node("MatMul", ["map", "map"], ["features"], name="aside"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert nodes_only_for_features(model) == ["aside"]


def test_labelled_sets_name_categories_or_identifiers(tmp_path):
    categories = [CategoryEntry(name="ant", id="n1"), CategoryEntry(name="bee", id="n2")]
    listed = tmp_path / "set.json"
    images = [{"file": "a.jpg", "category_id": "n2"}, {"file": "b/c.jpg", "category": "ant"}]
    listed.write_text(json.dumps({"images": images}))
    read = labelled_pictures(listed, categories)
    assert [(picture.file, picture.category) for picture in read] == [
        (tmp_path / "a.jpg", 1),
        (tmp_path / "b/c.jpg", 0),
    ]
    for folder in ("ant", "n2"):
        (tmp_path / "folders" / folder).mkdir(parents=True)
        (tmp_path / "folders" / folder / "x.jpg").touch()
    read = labelled_pictures(tmp_path / "folders", categories)
    assert [picture.category for picture in read] == [0, 1]
    assert [picture.file.name for picture in pictures_in(tmp_path / "folders")] == ["x.jpg"] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is not a labelled set"),
        ("{", "is not a labelled set"),
        ('{"images": [{}]}', r"images\.0\.file: Field required"),
        ('{"images": [{"file": "a", "category": "emu"}]}', "has no category 'emu'"),
        ('{"images": [{"file": "a"}]}', "has no category without a name"),
    ],
)
def test_malformed_labelled_sets_are_refused(tmp_path, text, words):
    listed = tmp_path / "set.json"
    listed.write_text(text)
    with pytest.raises(OperatorError, match=words):
        labelled_pictures(listed, [CategoryEntry(name="ant")])


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (150, 164, 0.8618, 0.9484), (9, 9, 0.7009, 1)],
)
def test_the_interval_is_wilsons(count, total, low, high):
    assert interval_95(count, total) == pytest.approx((low, high), abs=1e-4)


def test_a_comparison_shows_its_figures():
    labelled = Comparison(pictures=200, right_before=180, right_after=178, is_labelled=True)
    assert labelled.loss_points == pytest.approx(1)
    assert str(labelled) == (
        "Top-1 right on 200 labelled pictures: fp32 90.0 % (85.1 to 93.4), "
        "int8 89.0 % (83.9 to 92.6), loss 1.00 points (2 pictures)"
    )


@pytest.mark.parametrize(
    ("pictures", "max_loss_points", "allowed"),
    [
        (16, 0.5, 1),  # one picture is 6 %, and nothing smaller can be measured
        (164, 0.5, 1),
        (399, 0.5, 1),
        (400, 0.5, 2),
        (100, 29, 29),
        (1000, 0.1, 1),
        (164, 0, 0),
        (164, 100, 164),
    ],
)
def test_the_limit_of_a_loss_is_whole_pictures_and_at_least_one(pictures, max_loss_points, allowed):
    comparison = Comparison(pictures, right_before=9, right_after=9, is_labelled=True)
    assert comparison.allowed_pictures(max_loss_points) == allowed


@pytest.mark.parametrize("lost", [-3, 0, 1])
@pytest.mark.parametrize("pictures", [16, 164])
def test_one_picture_less_is_no_reason_to_refuse_a_version(pictures, lost):
    check_loss(Comparison(pictures, 14, 14 - lost, is_labelled=True), max_loss_points=0.5)


@pytest.mark.parametrize(
    ("lost", "max_loss_points", "words"),
    [
        (2, 0.5, "2 pictures lost, 0.5 points allow 1; nothing was published"),
        (1, 0, "1 picture lost, 0 points allow 0; nothing was published"),
        (5, 2.9, "5 pictures lost, 2.9 points allow 4; nothing was published"),
    ],
)
def test_more_pictures_less_are_a_reason(lost, max_loss_points, words):
    with pytest.raises(OperatorError, match=words):
        check_loss(Comparison(164, 145, 145 - lost, is_labelled=True), max_loss_points)
