"""Makes a model version from an ONNX file, its labels and its preprocessing."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import InputSpec, sample_inputs
from image_categorizer_server.inference.models.export import (
    MAX_DIFFERENCE,
    ONNX_FILE,
    WEIGHTS_FILE,
)
from image_categorizer_server.inference.models.manifest import (
    MANIFEST_FILE,
    CategoryEntry,
    FileEntry,
    Manifest,
    describe_file,
    digest_of,
)
from image_categorizer_server.inference.models.taxonomy import with_taxonomy
from image_categorizer_server.inference.packaging.huggingface import CONFIG, WEIGHTS, Labels
from image_categorizer_server.inference.packaging.onnx_graph import (
    FinalStep,
    PictureInput,
    choose_output,
    is_quantized,
    last_operator,
    picture_input,
    read_graph,
    served_graph,
)
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing, describe_input
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT

LABELS_FILE, SPEC_FILE = "labels.json", "input.json"
LABEL_FILES = ("labels.txt", LABELS_FILE, CONFIG)
NAMES: TypeAdapter[list[str] | dict[int, str]] = TypeAdapter(list[str] | dict[int, str])
FATAL_ONLY = 4


def onnx_file(source: Path) -> Path | None:
    """Returns the ONNX file at a path; None if the path is a Hugging Face folder."""
    if source.suffix == ".onnx" and source.is_file():
        return source
    file = source / ONNX_FILE
    return file if file.is_file() and not (source / WEIGHTS).exists() else None


def copy_onnx(
    file: Path, target: Path, labels: Labels, given: Preprocessing
) -> tuple[Manifest, str]:
    """Writes the graph to serve and its manifest into `target`; blocks for seconds.

    Args:
        file: the user's ONNX file, with label files in its folder.
        target: an empty folder.
        labels: name, version and origin of the new version.
        given: the user's options.

    Returns:
        The manifest, and a sentence that describes the preprocessing.

    Raises:
        OperatorError: the file, its labels or its preprocessing cannot be used.
    """
    names = read_labels(file.parent)
    model = read_graph(file)
    source = picture_input(model)
    output = choose_output(model, len(names))
    spec, summary = describe_input(file.parent, source, given)
    samples = sample_inputs(spec)
    expected = _run_original(file, source, output, spec, samples)
    if expected.shape[1:] != (len(names),):
        raise OperatorError(
            f"There are {len(names)} labels, but the graph returns {expected.shape[1:]} numbers."
        )
    activation, step = _final_step(model, output, expected, given.activation)
    onnx.save_model(served_graph(model, source, output, spec, step), target / ONNX_FILE)
    _compare(target / ONNX_FILE, source, samples, _apply(step, expected))
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
    return manifest, summary


def read_labels(folder: Path) -> list[str]:
    """Returns the categories in the folder of an ONNX file, in the order of its outputs.

    Raises:
        OperatorError: there is no label file, or it is malformed.
    """
    file = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    if file is None:
        raise OperatorError(
            f"{folder} has no label file: write labels.txt with one category per line, in the "
            "order of the network's outputs, or labels.json with a list."
        )
    try:
        text = file.read_text()
        if file.suffix == ".txt":
            names = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            value = json.loads(text)
            is_config = isinstance(value, dict) and "id2label" in value
            found = NAMES.validate_python(value["id2label"] if is_config else value)
            names = found if isinstance(found, list) else [found[i] for i in range(len(found))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        is_no_list = isinstance(error, ValidationError | KeyError)
        raise OperatorError(f"{file}: {'not a list of names' if is_no_list else error}.") from None
    if not names or not all(names):
        raise OperatorError(f"{file}: a category has no name.")
    return names


def write_companions(
    target: Path, categories: Sequence[CategoryEntry], spec: InputSpec
) -> dict[str, FileEntry]:
    """Writes labels and input specification into files, so that the digest covers them.

    Returns:
        The manifest's `files`.
    """
    names = [entry.name for entry in categories]
    (target / LABELS_FILE).write_text(json.dumps(names, indent=1) + "\n")
    (target / SPEC_FILE).write_text(spec.model_dump_json(indent=1) + "\n")
    files = [ONNX_FILE, LABELS_FILE, SPEC_FILE]
    files += [name for name in (WEIGHTS_FILE, WEIGHTS) if (target / name).is_file()]
    return {name: describe_file(target / name) for name in files}


def _final_step(
    model: onnx.ModelProto, output: str, numbers: NDArray[np.float32], given: Activation | None
) -> tuple[Activation, FinalStep]:
    """Returns the activation of the network, and the step that the graph lacks."""
    operator = last_operator(model, output)
    is_share = bool((numbers >= 0).all() and np.allclose(numbers.sum(-1), 1, atol=1e-3))
    own: Activation | None = None
    if operator == "Sigmoid":
        own = "sigmoid"
    elif operator == "Softmax" or is_share:
        own = "softmax"
    if own is None:
        activation = given or "softmax"
        return activation, activation
    if given not in (None, own):
        raise OperatorError(f"The graph already ends in {own}; omit --activation.")
    return own, "none"


def _apply(step: FinalStep, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    if step == "softmax":
        powers = np.exp(numbers - numbers.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
    if step == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-numbers)), np.float32)
    return numbers


def _run_original(
    file: Path,
    source: PictureInput,
    output: str,
    spec: InputSpec,
    samples: Sequence[NDArray[np.uint8]],
) -> NDArray[np.float32]:
    """Returns the answers of the user's own graph, a row for each sample."""
    try:
        session = _session(file)
        rows = [
            session.run([output], {source.name: _original_input(sample, source, spec)})[0][0]
            for sample in samples
        ]
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common class
        raise OperatorError(f"ONNX Runtime cannot run {file}: {first_line(error)}") from None
    numbers = np.stack(rows).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise OperatorError(f"{file} returns numbers that are not finite.")
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
    """Passes a served graph that answers like the original, for one image and for several.

    Raises:
        OperatorError: it answers differently, or fails.
    """
    remedy = f"; export it with a dynamic batch size instead of {source.batch}"
    remedy = remedy if source.batch else ""
    try:
        session = _session(file)
        parts = [
            session.run([OUTPUT], {INPUT: np.stack(part)})[0] for part in (samples[:1], samples[1:])
        ]
        answered = np.concatenate(parts)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common class
        why = "" if source.batch else f" ({first_line(error)})"
        raise OperatorError(f"The graph requires its own batch size{remedy}{why}.") from None
    if answered.shape != expected.shape:
        raise OperatorError(f"The graph requires its own batch size{remedy}.")
    if np.abs(answered - expected).max() > MAX_DIFFERENCE:
        raise OperatorError(
            f"The graph answers differently for several images than for one{remedy}."
        )


def _session(file: Path) -> onnxruntime.InferenceSession:
    """Returns a session that prints nothing to standard error: its exceptions say the same."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
