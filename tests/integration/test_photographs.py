"""Trained models on real photographs, compared with transformers."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.images.preprocess import InputSpec, Preprocessor, reduce
from image_categorizer_server.inference.models import export
from image_categorizer_server.inference.models.category_tree import CategoryTree, Filters
from image_categorizer_server.inference.models.packaged import multiplies_int8
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.packaging.evaluate import compare, labelled_pictures
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.packaging.int8_ranges import (
    RangesFile,
    shipped_ranges,
    write_int8_version,
)
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from PIL import Image, ImageOps

from tests.conftest import EXPORTS
from tests.integration.conftest import running_server

pytestmark = pytest.mark.timeout(300)
ONE = (1.0, 1.0, 1.0)
ROOT = Path(__file__).parents[2]
LIMITS = ImageLimits(20_000_000, 50_000_000, 16_384, 100, 100)


@pytest.fixture(scope="module")
def photographs(test_data):
    """(bytes, index of the ImageNet category) of each."""
    folder = test_data / "images" / "labelled"
    entries = json.loads((folder / "validation_set.json").read_text())["images"]
    return [((folder / entry["file"]).read_bytes(), entry["index"]) for entry in entries]


def add(repository, source, name):
    with repository.incoming() as incoming:
        manifest = copy_model(source, incoming, Labels(name, 1))
        return repository.publish(incoming, manifest), manifest


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("mobilenet_v2", 8),
        *[
            pytest.param(name, 1, marks=pytest.mark.slow)
            for name in ("mobilenet_v2", "deit_tiny", "inat_bird")
        ],
    ],
)
async def test_inputs_equal_those_of_the_models_own_processor(
    test_data, photographs, name, every, tmp_path
):
    from transformers import AutoImageProcessor

    source = test_data / "models" / name
    folder, manifest = add(Repository(tmp_path), source, name)
    file, report = await export.ensure_export(folder, manifest, EXPORTS, 300)
    assert report.accepted, report.reason
    runtime = OnnxRuntime(file, 0, 1)
    processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    decoder = Decoder(LIMITS)
    served = Preprocessor(decoder, manifest.input)
    scale, bias = np.array(manifest.input.scale), np.array(manifest.input.bias)
    for content, _ in photographs[::every]:
        pixels = decoder.decode(content)
        theirs = processor(pixels.array(), return_tensors="np")["pixel_values"][0]
        theirs = np.rint((theirs.transpose(1, 2, 0) - bias) / scale).clip(0, 255).astype(np.uint8)
        whole = reduce(pixels, manifest.input)
        drafted = served.prepare(content).array
        expected, exact, fast = runtime.predict([theirs, whole, drafted]).confidences
        assert np.abs(exact - expected).max() < 1e-3
        assert np.abs(fast - expected).max() < 0.02
        assert fast.argmax() == exact.argmax() == expected.argmax()


async def test_mobilenet_is_as_accurate_as_in_transformers(test_data, photographs, settings):
    repository = Repository(settings.model_path)
    add(repository, test_data / "models" / "mobilenet_v2", "mobilenet_v2")
    source = test_data / "models" / "mobilenet_v2"
    expected = await asyncio.to_thread(right_in_transformers, source, photographs)
    async with running_server(settings) as server, await server.client() as client:
        categories = await client.models.categories("mobilenet_v2")
        names = [category.category for category in categories]
        results = await asyncio.gather(
            *(client.classify_image(content, model="mobilenet_v2") for content, _ in photographs)
        )
    right = sum(
        names.index(result.category or "") == index
        for result, (_, index) in zip(results, photographs, strict=True)
    )
    assert abs(right - expected) <= 1
    assert right / len(photographs) == pytest.approx(0.915, abs=0.01)
    shown = results[0].predictions[0]
    assert shown.category_id.startswith("n")
    assert "physical entity" not in shown.ancestors


def right_in_transformers(folder, photographs):
    """Returns the number of photographs that transformers classifies correctly."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    network = AutoModelForImageClassification.from_pretrained(folder).eval()
    right = 0
    with torch.inference_mode():
        for content, index in photographs:
            image = Image.open(io.BytesIO(content)).convert("RGB")
            logits = network(**processor(image, return_tensors="pt")).logits
            right += int(logits.argmax()) == index
    return right


def test_eight_orientations_of_one_photograph_give_the_same_input(test_data):
    files = [test_data / "images" / "exif" / f"Landscape_{number}.jpg" for number in range(1, 9)]
    spec = InputSpec(
        width_px=16, height_px=16, resize="exact", resample="bilinear", scale=ONE, bias=ONE
    )
    decoder = Decoder(LIMITS)
    upright, *others = (
        reduce(decoder.decode(file.read_bytes()), spec).astype(int) for file in files
    )
    for other in others:  # the photographs differ in a painted digit
        assert np.abs(other - upright).mean() < 6
        assert np.abs(other[::-1] - upright).mean() > 20


@pytest.fixture(scope="module")
def lite0_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lite0")


@pytest.fixture(scope="module")
def lite0(lite0_folder):
    """The manifest of the packaged model, its runtime, and what makes its inputs."""
    name, folder = "efficientnet_lite0", lite0_folder
    manifest = write_version(name, 1, installed_weights(name), folder)
    runtime = OnnxRuntime(folder / export.ONNX_FILE, 0, 1)
    return manifest, runtime, Preprocessor(Decoder(LIMITS), manifest.input)


def test_the_packaged_model_is_as_accurate_as_in_its_authors_pipeline(photographs, lite0):
    _, runtime, preprocessor = lite0
    right = expected = 0
    for content, index in photographs:
        inputs = [preprocessor.prepare(content).array, as_the_authors_prepare(content)]
        ours, theirs = runtime.predict(inputs).confidences.argmax(1)
        right, expected = right + (ours == index), expected + (theirs == index)
    assert abs(right - expected) <= 1
    assert right / len(photographs) == pytest.approx(0.884, abs=0.01)


@pytest.mark.skipif(not multiplies_int8(), reason="this processor has neither VNNI nor AMX")
def test_the_int8_version_loses_what_its_manifest_says(test_data, lite0, lite0_folder, tmp_path):
    manifest, runtime, preprocessor = lite0
    int8 = write_int8_version(lite0_folder, 2, tmp_path)
    faster = OnnxRuntime(tmp_path / export.ONNX_FILE, 0, 1)
    dataset = test_data / "images" / "labelled" / "validation_set.json"
    pictures = labelled_pictures(dataset, manifest.categories)
    found = compare(runtime, faster, pictures, preprocessor, lambda *_: None)
    said = int8.quantization
    assert (found.pictures, said.pictures) == (164, 164)
    for measured, expected in (
        (found.right_before, said.fp32_top_1),
        (found.right_after, said.int8_top_1),
        (found.top_5_before, said.fp32_top_5),
        (found.top_5_after, said.int8_top_5),
    ):
        assert abs(measured - expected) <= 1  # processors round differently


@pytest.mark.slow
def test_the_shipped_ranges_are_what_their_script_measures(test_data, tmp_path):
    dataset = test_data / "images" / "labelled" / "validation_set.json"
    script, target = ROOT / "tools" / "int8_ranges.py", tmp_path / "ranges.json"
    subprocess.run([sys.executable, script, dataset, target], check=True)
    measured = RangesFile.model_validate_json(target.read_bytes())
    shipped = shipped_ranges("efficientnet_lite0")
    assert measured.weights_sha256 == shipped.weights_sha256
    assert measured.calibrated_on == shipped.calibrated_on
    assert measured.ranges.keys() == shipped.ranges.keys()
    for name, pair in measured.ranges.items():
        assert pair == pytest.approx(shipped.ranges[name], rel=1e-3), name
    assert measured.corrections.keys() == shipped.corrections.keys()
    for name, shifts in measured.corrections.items():
        assert shifts == pytest.approx(shipped.corrections[name], abs=0.05), name


def test_rolled_up_answers_are_a_fifth_more_of_the_photographs_and_as_often_right(
    photographs, lite0
):
    manifest, runtime, preprocessor = lite0
    tree = CategoryTree(manifest.categories, manifest.activation)
    plain, rolled = [], []
    for content, index in photographs:
        (confidences,) = runtime.predict([preprocessor.prepare(content).array]).confidences
        if confidences.max() >= 0.8:
            plain.append(confidences.argmax() == index)
        name = tree.roll_up(confidences, 0.8, 1, Filters())[0].category.name
        if manifest.categories[index].name == "beagle":
            assert (confidences.max() < 0.8, name) == (True, "dog")
        if name != "UNKNOWN":
            rolled.append((name, index in tree.outputs([name])))
    # The category at the top that says least: 398 of the 1,000 are animals.
    specific = [is_right for name, is_right in rolled if name != "animal"]
    assert len(specific) >= len(plain) + 0.2 * len(photographs)
    # One more photograph is counted as wrong: of a modem in a computer, as "computer".
    assert len(plain) - sum(plain) == 0
    assert len(rolled) - sum(is_right for _, is_right in rolled) <= 1
    broadest = len(rolled) - len(specific)
    print(f"Answered at 0.8: {len(plain)}, rolled up {len(rolled)}, {broadest} of them as animal.")


def as_the_authors_prepare(content):
    """Returns uint8 (224, 224, 3): the centre of the picture, its shorter side 256 pixels."""
    with Image.open(io.BytesIO(content)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    factor = 256 / min(picture.size)
    width_px, height_px = (int(side * factor) for side in picture.size)
    left, top = (width_px - 224) // 2, (height_px - 224) // 2
    picture = picture.resize((width_px, height_px), Image.Resampling.BICUBIC)
    return np.asarray(picture.crop((left, top, left + 224, top + 224)))
