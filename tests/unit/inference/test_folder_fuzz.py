"""Whatever a Hugging Face folder holds, it is served as transformers serves it, or refused."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.preprocess import reduce
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.packaging.selftest import run_self_test
from image_categorizer_server.inference.runtimes.network import load_network
from image_categorizer_server.inference.runtimes.torch import TorchRuntime
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.support.mutations import mutate

MAX_DIFFERENCE = 1e-3
QUICK, ALL = 60, 500


def transformers_answer(folder, shown):
    """Returns what a pipeline of transformers answers for a picture; None if it cannot load."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    try:
        network, found = AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        missing = [key for key in found["missing_keys"] if "num_batches" not in key]
        if missing:
            return None
        given = Image.fromarray(shown)
        if network.config.num_channels == 1:
            given = given.convert("L")
        inputs = processor(given, return_tensors="pt")
        with torch.inference_mode():
            logits = network.eval()(**inputs).logits[0].double()
    except Exception:  # noqa: BLE001 - what the folder holds decides what transformers raises
        return None
    problem = network.config.problem_type
    if problem == "multi_label_classification" or len(logits) == 1:
        return logits.sigmoid().numpy()
    return logits.softmax(-1).numpy()


def by_hand(source, mended):
    """Writes what a person would give to transformers instead: UTF-8, labels, names of weights."""
    shutil.copytree(source, mended)
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((source / name).read_bytes())
        if name == "config.json":
            labels = content.get("id2label")
            if isinstance(labels, list):
                content["id2label"] = dict(enumerate(labels))
            elif not labels and content.get("label2id"):
                content["id2label"] = {i: label for label, i in content["label2id"].items()}
        elif not content.get("image_processor_type"):
            content["image_processor_type"] = "ViTImageProcessor"
        (mended / name).write_text(json.dumps(content))
    weights = load_file(source / "model.safetensors")
    plain = {re.sub(r"^(_orig_mod\.|module\.|model\.)+", "", key): weights[key] for key in weights}
    save_file(plain, mended / "model.safetensors", metadata={"format": "pt"})
    return mended


def added(source, target):
    """Returns manifest and runtime of what `models add` would publish."""
    manifest = copy_model(source, target, Labels("tiny", 1))
    network = load_network(target, manifest.input, manifest.activation)
    runtime = TorchRuntime(network, "cpu")
    run_self_test(source, target, manifest, runtime, None)
    return manifest, runtime


def check(source, target):
    """Returns whether the folder is served, and whether transformers reads it as it is.

    Raises:
        AssertionError: it is served with other answers than those of transformers.
    """
    try:
        manifest, runtime = added(source, target)
    except OperatorError as error:
        sentence = str(error)
    else:
        sentence = ""
    if sentence:
        assert str(target) not in sentence
        assert len(sentence) < 2000
        return "refused"
    # No photograph of its size is cut or stretched, whatever the card says.
    shown = np.random.default_rng(1).integers(
        0, 256, (manifest.input.height_px, manifest.input.width_px, 3), np.uint8
    )
    ours = runtime.predict([reduce(Pixels.of(shown), manifest.input)]).confidences[0]
    assert np.isfinite(ours).all()
    assert len(manifest.categories) == len(ours)
    end, theirs = "served", transformers_answer(source, shown)
    if theirs is None:
        end, theirs = "mended", transformers_answer(by_hand(source, target / "by-hand"), shown)
    assert theirs is not None, "transformers has no answer"
    assert np.abs(ours - theirs).max() <= MAX_DIFFERENCE
    return end


@pytest.fixture(scope="module")
def run_seed(tiny, tmp_path_factory):
    root, threads = tmp_path_factory.mktemp("fuzz"), torch.get_num_threads()
    torch.set_num_threads(1)  # several threads wait for one another on a busy machine

    def run(seed):
        source, target = root / "source", root / "target"
        for folder in (source, target):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny, source)
        target.mkdir()
        done = mutate(source, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers and numpy, about odd values
            try:
                return check(source, target)
            except BaseException as error:
                error.add_note(f"seed {seed}: {'; '.join(done)}")
                raise

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("first", range(0, QUICK, 10))
def test_a_damaged_folder_is_refused_in_a_sentence_or_served_right(run_seed, first):
    ends = [run_seed(seed) for seed in range(first, first + 10)]
    assert len(set(ends)) > 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_damaged_folders_are_refused_or_served_right(run_seed):
    ends = [run_seed(seed) for seed in range(QUICK, QUICK + ALL)]
    counts = {end: ends.count(end) for end in sorted(set(ends))}
    print(f"\n{len(ends)} damaged folders: {counts}")
    assert min(counts.values()) > 0
