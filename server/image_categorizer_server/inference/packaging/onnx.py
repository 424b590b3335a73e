"""Makes a model version from an ONNX file, its labels and what is said of its preprocessing."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec, sample_inputs
from image_categorizer_server.inference.models.export import MAX_DIFFERENCE, ONNX_FILE, WEIGHTS_FILE
from image_categorizer_server.inference.models.manifest import (
    MANIFEST_FILE,
    CategoryEntry,
    FileEntry,
    Manifest,
    describe_file,
    digest_of,
)
from image_categorizer_server.inference.models.taxonomy import with_taxonomy
from image_categorizer_server.inference.packaging.huggingface import Labels
from image_categorizer_server.inference.packaging.onnx_description import (
    Preprocessing,
    describe_input,
    read_labels,
)
from image_categorizer_server.inference.packaging.onnx_graph import (
    Outcome,
    PictureInput,
    choose_output,
    is_quantized,
    last_operator,
    picture_input,
    read_graph,
    served_graph,
)
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT

LABELS_FILE, SPEC_FILE = "labels.json", "input.json"
FATAL_ONLY = 4


def copy_onnx(
    file: Path, target: Path, labels: Labels, said: Preprocessing
) -> tuple[Manifest, str]:
    """Writes the graph that will be served into `target`, and the manifest; blocks for seconds.

    Returns:
        The manifest, and a sentence for the person: how pictures become the graph's input.

    Raises:
        OperatorError: the file, its labels or its preprocessing are not usable.
    """
    names = read_labels(file.parent)
    model = read_graph(file)
    source = picture_input(model)
    output = choose_output(model, len(names))
    spec, told = describe_input(file.parent, source, said)
    samples = sample_inputs(spec)
    expected = _run_original(file, source, output, spec, samples)
    _check_count(len(names), expected)
    activation, left = _activation(model, output, expected, said.activation)
    served = served_graph(model, source, output, spec, left)
    onnx.save_model(served, target / ONNX_FILE)
    _compare(target / ONNX_FILE, source, samples, _finished(expected, left))
    categories = with_taxonomy(names, labels.taxonomy)
    files = write_companions(target, categories, spec)
    manifest = Manifest(
        files=files,
        digest=digest_of(files),
        categories=categories,
        input=spec,
        name=labels.name,
        version=labels.version,
        format="onnx",
        precision="int8" if is_quantized(model) else "fp32",
        activation=activation,
        licence=labels.licence,
        origin=labels.origin or file.name,
    )
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest, told


def _check_count(labels: int, numbers: NDArray[np.float32]) -> None:
    if numbers.shape[1:] != (labels,):
        raise OperatorError(
            f"There are {labels} labels, but the graph answers {numbers.shape[1:]} numbers."
        )


def write_companions(
    target: Path, categories: Sequence[CategoryEntry], spec: InputSpec
) -> dict[str, FileEntry]:
    """Writes beside `model.onnx` what else decides an answer, so that the digest covers it.

    Returns:
        The manifest's `files`.
    """
    names = [entry.name for entry in categories]
    (target / LABELS_FILE).write_text(json.dumps(names, indent=1) + "\n")
    (target / SPEC_FILE).write_text(spec.model_dump_json(indent=1) + "\n")
    names_of_files = [ONNX_FILE, LABELS_FILE, SPEC_FILE]
    names_of_files += [WEIGHTS_FILE] if (target / WEIGHTS_FILE).is_file() else []
    return {name: describe_file(target / name) for name in names_of_files}


def _activation(
    model: onnx.ModelProto, output: str, numbers: NDArray[np.float32], said: Activation | None
) -> tuple[Activation, Outcome]:
    is_share = bool((numbers >= 0).all() and np.allclose(numbers.sum(-1), 1, atol=1e-3))
    activation, left = _activation_of(last_operator(model, output), is_share)
    if said is None or said == activation:
        return activation, left
    if left == "none":
        raise OperatorError(f"The graph answers by {activation} already; leave out --activation.")
    return said, said


def _activation_of(operator: str, is_share: bool) -> tuple[Activation, Outcome]:
    """Returns what the network answers by, and what is left to do.

    Args:
        operator: that makes the output.
        is_share: whether rows of it lie in [0, 1] and sum to 1.
    """
    if operator == "Sigmoid":
        return "sigmoid", "none"
    if operator == "Softmax" or is_share:
        return "softmax", "none"
    return "softmax", "softmax"


def _finished(numbers: NDArray[np.float32], left: Outcome) -> NDArray[np.float32]:
    if left == "softmax":
        powers = np.exp(numbers - numbers.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
    if left == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-numbers)), np.float32)
    return numbers


def _run_original(
    file: Path,
    source: PictureInput,
    output: str,
    spec: InputSpec,
    samples: Sequence[NDArray[np.uint8]],
) -> NDArray[np.float32]:
    """Returns what the graph as it came answers, a row for each sample."""
    try:
        session = _session(file)
        rows = [
            session.run([output], {source.name: _original_input(sample, source, spec)})[0][0]
            for sample in samples
        ]
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no class of their own
        raise OperatorError(f"ONNX Runtime cannot run {file}: {first_line(error)}") from None
    numbers = np.stack(rows).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise OperatorError(f"{file} answers with numbers that are not finite.")
    return numbers


def _original_input(
    sample: NDArray[np.uint8], source: PictureInput, spec: InputSpec
) -> NDArray[np.generic]:
    picture: NDArray[np.generic] = sample
    if not source.takes_bytes:
        scaled = sample * np.array(spec.scale) + np.array(spec.bias)
        picture = scaled.astype(onnx.helper.tensor_dtype_to_np_dtype(source.element))
    if source.layout == "NCHW":
        picture = picture.transpose(2, 0, 1)
    return np.repeat(picture[None], source.batch or 1, axis=0)


def _compare(
    file: Path,
    source: PictureInput,
    samples: Sequence[NDArray[np.uint8]],
    expected: NDArray[np.float32],
) -> None:
    """Refuses a served graph that answers otherwise than the original, in batches of 1 and more."""
    told = f"; export it with a dynamic one in place of {source.batch}" if source.batch else ""
    try:
        session = _session(file)
        parts = [
            session.run([OUTPUT], {INPUT: np.stack(part)})[0] for part in (samples[:1], samples[1:])
        ]
        answered = np.concatenate(parts)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no class of their own
        why = "" if source.batch else f" ({first_line(error)})"
        raise OperatorError(f"The graph insists on its size of batch{told}{why}.") from None
    if answered.shape != expected.shape:
        raise OperatorError(f"The graph insists on its size of batch{told}.")
    if np.abs(answered - expected).max() > MAX_DIFFERENCE:
        raise OperatorError(f"In a batch the graph answers otherwise than for one image{told}.")


def _session(file: Path) -> onnxruntime.InferenceSession:
    """Returns what runs a graph without a word on standard error: the exception says it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
