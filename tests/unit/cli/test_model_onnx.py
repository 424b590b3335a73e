"""Mutated ONNX files and label files: each is served as it answers by itself, or refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.packaging.huggingface import Labels
from image_categorizer_server.inference.packaging.onnx import copy_onnx
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

from tests.support.onnx_mutations import Mutated, mutated

INPUTS = 12
MAX_DIFFERENCE = 1e-3
KEEPING = {"Reshape", "Identity", "Flatten", "Cast", "Unsqueeze", "Squeeze"}


def softmax(numbers):
    powers = np.exp(numbers - numbers.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def readings(file, numbers):
    """Returns what the numbers of a graph can mean, by the operators that come last."""
    graph = onnx.load_model(file, load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(graph.output[0].name)
    while node is not None and node.op_type in KEEPING:
        node = makers.get(node.input[0])
    last = "" if node is None else node.op_type
    if last in ("Softmax", "Sigmoid"):
        return {"as it is": numbers}
    if last == "Gemm":
        return {"softmax": softmax(numbers)}
    if last == "LogSoftmax":
        return {"exp": np.exp(numbers)}
    by_value = {"as it is": numbers, "percent": numbers / 100, "softmax": softmax(numbers)}
    if numbers.min() >= 0:  # no softmax of what may be confidences
        del by_value["softmax"]
    return by_value


def original_numbers(file, spec, samples):
    """Returns the answers of the user's file, one by one, after preprocessing by hand."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(given.type, np.float32)
    batch = given.shape[0] if isinstance(given.shape[0], int) else 1
    rows = []
    for sample in samples:
        scaled = sample * np.array(spec.scale) + np.array(spec.bias)
        picture = (
            scaled if given.shape[3] == 3 and given.shape[1] != 3 else scaled.transpose(2, 0, 1)
        )
        values = np.repeat(picture[None].astype(kind), batch, axis=0)
        rows.append(np.asarray(session.run(None, {given.name: values})[0])[0].ravel())
    return np.stack(rows).astype(np.float64)


def check(tmp_path, seed) -> str:
    """Makes a version of a mutated folder; returns what became of it.

    Raises:
        Exception: anything but one sentence, or something else is served than the original.
    """
    found = mutated(tmp_path / f"source-{seed}", seed)
    folder = tmp_path / f"version-{seed}"
    folder.mkdir()
    try:
        copy_onnx(found.file, folder, Labels("mine", 1), Preprocessing())
    except OperatorError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, (seed, found.description, said)
        assert len(said) > 20, (seed, found.description, said)
        assert str(folder) not in said, (seed, found.description, said)
        return "refused"
    compare(found, seed, folder)
    return "served"


def compare(found: Mutated, seed: int, folder) -> None:
    manifest = read_manifest(folder)
    shape = INPUTS, manifest.input.height_px, manifest.input.width_px, 3
    samples = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    served = OnnxRuntime(folder / "model.onnx", 1, 1).predict(list(samples)).confidences
    numbers = original_numbers(found.file, manifest.input, samples)
    apart = {
        reading: float(np.abs(served - wanted).max())
        for reading, wanted in readings(found.file, numbers).items()
    }
    assert min(apart.values()) <= MAX_DIFFERENCE, (seed, found.description, apart)


def test_mutated_folders_are_served_as_they_answer_or_refused(tmp_path, capsys):
    outcomes = [check(tmp_path, seed) for seed in range(120)]
    assert capsys.readouterr().out == ""
    # A fuzz whose files are all refused, or all served, shows nothing.
    assert min(outcomes.count("served"), outcomes.count("refused")) >= 25


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_mutated_folders_are_served_as_they_answer_or_refused(tmp_path):
    outcomes = [check(tmp_path, seed) for seed in range(1000, 1500)]
    print({outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))})


def test_models_add_prints_no_traceback_whatever_the_file_holds(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("CATEGORIZER_MODELS__PACKAGED", "false")
    for seed in range(6):
        found = mutated(tmp_path / f"source-{seed}", seed)
        done = run("models", "add", "mine", found.file.parent)
        assert done.out == ""
        assert "Traceback" not in done.err, (seed, found.description, done.err)
        if done.status == 0:
            assert "\nSelf-test on 6 pictures: 6 have the same first category" in done.err
        else:
            # The first line names the repository.
            assert len(done.err.splitlines()) == 2, (seed, found.description, done.err)
