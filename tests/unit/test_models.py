"""The model repository: importing, manifests, taxonomies, exports, warm-up."""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_categorizer_server.errors import ModelLoading, ModelNotFound, OperatorError
from image_categorizer_server.inference.decode import Decoder, ImageLimits
from image_categorizer_server.inference.export import ensure_export, export_folder
from image_categorizer_server.inference.hub import local_name
from image_categorizer_server.inference.importer import Labels, check_files, check_name, copy_model
from image_categorizer_server.inference.loader import Loader, choose_device
from image_categorizer_server.inference.manifest import damage, read_manifest
from image_categorizer_server.inference.registry import Registry
from image_categorizer_server.inference.repository import Repository
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.inference.taxonomy import with_taxonomy
from image_categorizer_server.inference.warmup import warm_up
from image_categorizer_server.settings import InferenceSettings, ModelSettings

from tests.conftest import EXPORTS
from tests.tiny_model import CARD, write_tiny_model

CATEGORIES = ["ant", "bee", "cat"]
LIMITS = ImageLimits(10_000_000, 50_000_000, 16_384, 100, 100)
SLOW = pytest.mark.timeout(120)  # torch and transformers are imported, models exported


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), CATEGORIES)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "models")


def add(repository, source, name="tiny", **labels):
    with repository.incoming() as incoming:
        manifest = copy_model(source, incoming, Labels(name, repository.latest(name) + 1, **labels))
        return repository.publish(incoming, manifest)


@SLOW
def test_a_folder_becomes_a_version_with_a_manifest(repository, tiny):
    folder = add(repository, tiny, licence="MIT", origin="a test")
    manifest = read_manifest(folder)
    assert [entry.name for entry in manifest.categories] == CATEGORIES
    assert (manifest.name, manifest.version, manifest.licence, manifest.origin) == (
        "tiny",
        1,
        "MIT",
        "a test",
    )
    assert sorted(manifest.files) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert manifest.activation == "softmax"
    assert (manifest.input.width_px, manifest.input.resize) == (32, "exact")
    assert manifest.input.scale == pytest.approx((1 / 51, 1 / 76.5, 1 / 102))
    assert manifest.input.bias == pytest.approx((-2.5, -4 / 3, -0.75))
    assert damage(folder, manifest) == ""


@SLOW
def test_versions_count_up_and_equal_files_have_equal_digests(repository, tiny):
    first, second = (read_manifest(add(repository, tiny)) for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest
    assert [(f.name, f.version) for f in repository.scan() if f.name == "tiny"] == [
        ("tiny", 1),
        ("tiny", 2),
    ]


@SLOW
def test_any_change_of_a_file_is_damage(repository, tiny):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert damage(folder, manifest) == "model.safetensors is not what the manifest says"
    weights.unlink()
    assert damage(folder, manifest) == "model.safetensors is missing"


@SLOW
def test_a_multi_label_model_answers_by_sigmoid(repository, tmp_path):
    source = write_tiny_model(
        tmp_path / "source", CATEGORIES, problem_type="multi_label_classification"
    )
    assert read_manifest(add(repository, source)).activation == "sigmoid"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "config.json, model.safetensors, preprocessor_config.json missing"),
        (["config.json", "preprocessor_config.json", "pytorch_model.bin"], "could run code"),
        (["config.json", "model.safetensors"], "preprocessor_config.json missing"),
    ],
)
def test_folders_that_are_no_models_are_refused(tmp_path, files, words):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OperatorError, match=words):
        check_files(tmp_path)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", ".a", "a" * 65, "ä"])
def test_names_that_are_no_folders_are_refused(name):
    with pytest.raises(OperatorError, match="no model name"):
        check_name(name)


@SLOW
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_resize": False}, "it does not resize"),
        ({"size": {"longest_edge": 32}}, "unknown kind"),
        (
            {"do_center_crop": True, "size": {"shortest_edge": 32}, "crop_size": None},
            "unknown kind",
        ),
    ],
)
def test_a_processor_we_cannot_imitate_is_refused(repository, tiny, tmp_path, change, words):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).write_bytes((tiny / name).read_bytes())
    (source / "preprocessor_config.json").write_text(json.dumps(CARD | change))
    with pytest.raises(OperatorError, match=words):
        add(repository, source)
    assert [f for f in repository.scan() if f.name == "tiny"] == []


@pytest.mark.parametrize("text", ["{}", "no json", '{"name": "../x"}'])
def test_a_malformed_manifest_says_where(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(OperatorError, match=r"manifest\.json is malformed"):
        read_manifest(tmp_path)


def test_the_starter_ships_with_the_program_and_stays(repository):
    assert [(f.name, f.is_packaged) for f in repository.scan()] == [("starter", True)]
    with pytest.raises(OperatorError, match="ships with the program"):
        repository.remove("starter", None)
    with pytest.raises(OperatorError, match="models list"):
        repository.remove("nope", 1)


@SLOW
def test_removing_takes_one_version_or_all(repository, tiny):
    for _ in range(3):
        add(repository, tiny)
    assert repository.remove("tiny", 2) == [2]
    assert repository.remove("tiny", None) == [1, 3]
    assert [f.name for f in repository.scan()] == ["starter"]


def test_imagenet_categories_know_their_identifiers_and_ancestors():
    known = with_taxonomy(imagenet_names(), None)
    assert (known[0].id, known[0].ancestors[:2]) == ("n01440764", ("cyprinid", "cypriniform fish"))
    assert known[207].id == "n02099601"
    assert "dog" in known[207].ancestors
    assert len({entry.name for entry in known}) == 1000
    shifted = with_taxonomy(["background", *imagenet_names()], None)
    assert (shifted[0].id, shifted[1].id) == ("", "n01440764")


def imagenet_names():
    from importlib import resources

    table = resources.files("image_categorizer_server") / "taxonomies" / "imagenet1k.json"
    return [entry["name"] for entry in json.loads(table.read_text())]


def test_other_categories_have_no_taxonomy_unless_a_file_gives_one(tmp_path):
    assert with_taxonomy(["cat", "dog"], None)[0].ancestors == ()
    file = tmp_path / "taxonomy.json"
    file.write_text(
        '[{"name": "dog", "id": "n2"}, {"name": "cat", "id": "n1", "ancestors": ["animal"]}]'
    )
    cat, dog = with_taxonomy(["cat", "dog"], file)
    assert (cat.id, cat.ancestors, dog.id) == ("n1", ("animal",), "n2")
    with pytest.raises(OperatorError, match="misses 1 of the model's categories, such as 'emu'"):
        with_taxonomy(["cat", "emu"], file)
    file.write_text('[{"id": 3}]')
    with pytest.raises(OperatorError, match="is no taxonomy"):
        with_taxonomy(["cat"], file)


def test_categories_of_one_name_are_told_apart():
    assert [e.name for e in with_taxonomy(["crane", "cat", "crane"], None)] == [
        "crane (0)",
        "cat",
        "crane (2)",
    ]


@SLOW
async def test_an_export_answers_like_torch_and_is_made_once(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    file, verdict = await ensure_export(folder, manifest, tmp_path / "cache", 60)
    assert (verdict.accepted, verdict.max_difference < 1e-5) == (True, True)
    stamp = file.stat().st_mtime_ns
    again, _ = await ensure_export(folder, manifest, tmp_path / "cache", 60)
    assert (again, again.stat().st_mtime_ns) == (file, stamp)
    warm_up(OnnxRuntime(file, 1, 1), manifest, 4)


@SLOW
async def test_a_model_that_cannot_be_loaded_says_why(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(OperatorError, match="cannot be loaded"):
        await ensure_export(folder, manifest, tmp_path / "cache", 60)
    assert not export_folder(tmp_path / "cache", manifest.digest).exists()


@SLOW
async def test_an_export_that_takes_too_long_is_ended(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    with pytest.raises(OperatorError, match=r"longer than 0\.1 s"):
        await ensure_export(folder, read_manifest(folder), tmp_path / "cache", 0.1)


@pytest.fixture
def loader():
    with ThreadPoolExecutor(1) as pool:
        models = ModelSettings(cache_path=EXPORTS)
        yield Loader(Decoder(LIMITS), InferenceSettings(max_batch_size=2), models, pool)


@SLOW
async def test_where_the_export_was_refused_torch_serves(repository, tiny, loader, tmp_path):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    refused = export_folder(EXPORTS, manifest.digest)
    file, verdict = await ensure_export(folder, manifest, EXPORTS, 60)
    by_onnx = OnnxRuntime(file, 1, 1)
    original = (refused / "verdict.json").read_text()
    try:
        told = verdict.model_copy(update={"accepted": False, "reason": "confidences differ"})
        (refused / "verdict.json").write_text(told.model_dump_json())
        model = await loader.load(folder, manifest)
    finally:
        (refused / "verdict.json").write_text(original)
    assert (model.runtime.name, model.runtime.device) == ("torch", "cpu")
    inputs = [np.full((32, 32, 3), value, np.uint8) for value in (0, 99)]
    assert model.runtime.predict(inputs) == pytest.approx(by_onnx.predict(inputs), abs=1e-5)
    await model.batcher.stop()


class Broken:
    """A runtime that answers what no classifier would."""

    name, device, lanes = "broken", "cpu", 1

    def __init__(self, answer):
        self._answer = answer

    def predict(self, inputs):
        if isinstance(self._answer, Exception):
            raise self._answer
        return np.full((len(inputs), 3), self._answer, np.float32)[
            :, : 2 if self._answer == 0 else 3
        ]


@SLOW
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RuntimeError("no memory"), "failed: no memory"),
        (0, r"answers \(1, 2\)"),
        (np.nan, "outside"),
        (2.0, "outside"),
    ],
)
def test_a_warm_up_that_fails_refuses_the_model(repository, tiny, answer, words):
    manifest = read_manifest(add(repository, tiny))
    with pytest.raises(OperatorError, match=words):
        warm_up(Broken(answer), manifest, 2)


class Timed:
    """A runtime whose images cost more once they no longer fit the caches."""

    name, device, lanes = "timed", "cpu", 1

    def __init__(self, call_s, image_s, cached_images):
        self._call_s, self._image_s, self._cached_images = call_s, image_s, cached_images

    def predict(self, inputs):
        slower = 1 if len(inputs) <= self._cached_images else 2
        time.sleep(self._call_s + self._image_s * len(inputs) * slower)
        return np.full((len(inputs), 3), 1 / 3, np.float32)


@SLOW
@pytest.mark.parametrize(
    ("call_s", "image_s", "cached_images", "best"),
    [(0.01, 0, 8, 8), (0, 0.003, 2, 2), (0, 0.003, 0, 8)],
)
def test_the_micro_batch_size_that_serves_most_is_found(
    repository, tiny, call_s, image_s, cached_images, best
):
    manifest = read_manifest(add(repository, tiny))
    assert warm_up(Timed(call_s, image_s, cached_images), manifest, 8) == best


@SLOW
async def test_a_registry_takes_up_and_lets_go(repository, tiny, loader):
    registry = Registry(repository, loader, "starter", 0.05)
    await registry.load_all()
    watching = asyncio.create_task(registry.watch())
    with pytest.raises(ModelNotFound):
        registry.get("tiny", None)
    add(repository, tiny)
    async with asyncio.timeout(60):
        while "tiny" not in {s.ref.name for s in registry.statuses() if s.runtime}:
            await asyncio.sleep(0.02)
        assert registry.get("tiny", None).ref.version == 1
        assert registry.get("", None).ref.name == "starter"
        repository.remove("tiny", None)
        while any(status.ref.name == "tiny" for status in registry.statuses()):
            await asyncio.sleep(0.02)
    with pytest.raises(ModelNotFound):
        registry.get("tiny", 1)
    watching.cancel()
    await registry.close()


@SLOW
async def test_a_damaged_model_fails_alone_while_running_but_stops_a_start(
    repository, tiny, loader
):
    running = Registry(repository, loader, "starter", 60)
    await running.load_all()
    folder = add(repository, tiny)
    (folder / "config.json").write_text("{}")
    await running._refresh()
    broken = next(status for status in running.statuses() if status.ref.name == "tiny")
    assert (broken.state.value, "damaged" in broken.state_message) == ("FAILED", True)
    assert running.get("", None).ref.name == "starter"
    with pytest.raises(ModelNotFound):
        running.get("tiny", None)
    with pytest.raises(OperatorError, match="models remove tiny --version 1"):
        await Registry(repository, loader, "starter", 60).load_all()
    await running.close()


async def test_a_default_model_that_is_missing_stops_the_start(repository, loader):
    with pytest.raises(OperatorError, match="CATEGORIZER_MODELS__DEFAULT"):
        await Registry(repository, loader, "nope", 60).load_all()


async def test_a_model_that_is_being_loaded_is_not_yet_there(repository, loader):
    registry = Registry(repository, loader, "starter", 60)
    loading = asyncio.create_task(registry.load_all())
    async with asyncio.timeout(10):
        while not registry.statuses():
            await asyncio.sleep(0)
    with pytest.raises(ModelLoading):
        registry.get("", None)
    await loading
    await registry.close()


def test_a_gpu_that_is_not_there_is_an_error_only_when_asked_for():
    assert choose_device("cpu") == "cpu"
    if not os.path.exists("/dev/nvidiactl"):  # noqa: PTH110
        assert choose_device("auto") == "cpu"
        with pytest.raises(OperatorError, match="torch finds no GPU"):
            choose_device("cuda")


@pytest.mark.parametrize(
    ("pulled", "name"), [("resnet50", "resnet50"), ("microsoft/ResNet-50", "resnet-50")]
)
def test_a_pulled_model_has_a_name_here(pulled, name):
    assert local_name(pulled) == name
