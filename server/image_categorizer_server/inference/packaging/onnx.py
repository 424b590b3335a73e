"""Makes a model version from an ONNX file, its labels and its preprocessing.

read ─▶ labels ─▶ input ─▶ ask the original about many pictures ─▶ what are its answers?
                               │                                         │
                               └────────── compare ◀── graph to serve ◀──┘
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.detect import Detection
from image_categorizer_server.inference.images.preprocess import InputSpec, reduce
from image_categorizer_server.inference.models.export import (
    MAX_DIFFERENCE,
    ONNX_FILE,
    WEIGHTS_FILE,
)
from image_categorizer_server.inference.models.manifest import (
    CALIBRATION_FILE,
    MANIFEST_FILE,
    CategoryEntry,
    FileEntry,
    Manifest,
    describe_file,
    digest_of,
)
from image_categorizer_server.inference.packaging.foreign import is_own
from image_categorizer_server.inference.packaging.huggingface import WEIGHTS, Labels
from image_categorizer_server.inference.packaging.label_files import LABELS_FILE, LabelSet
from image_categorizer_server.inference.packaging.onnx_answers import (
    Given,
    decide,
    probe_inputs,
)
from image_categorizer_server.inference.packaging.onnx_detector import (
    find_layout,
    served_detector,
)
from image_categorizer_server.inference.packaging.onnx_file import onnx_file, read_model
from image_categorizer_server.inference.packaging.onnx_graph import (
    Wrapping,
    choose_output,
    is_quantized,
    metadata_of,
    own_range,
    picture_input,
    possible_outputs,
    served_graph,
)
from image_categorizer_server.inference.packaging.onnx_input import (
    GraphFacts,
    Preprocessing,
    describe_input,
)
from image_categorizer_server.inference.packaging.onnx_labels import (
    check_count,
    config_field,
    read_labels,
)
from image_categorizer_server.inference.packaging.onnx_original import (
    Made,
    Original,
    Served,
    first_line,
    write_served,
)
from image_categorizer_server.inference.packaging.onnx_ranges import last_operator, output_range
from image_categorizer_server.inference.packaging.onnx_selftest import (
    own_preprocessing,
    run_self_test,
    scale,
)
from image_categorizer_server.inference.runtimes.onnx import OUTPUT

__all__ = ["copy_onnx", "first_line", "onnx_file", "write_companions"]
SPEC_FILE, DETECTION_FILE = "input.json", "detection.json"
ONE_BY_ONE = (
    "The graph answers right only for one picture at a time, so it is called once for each: "
    "export it with a dynamic batch size to make it faster."
)


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
        The manifest, and lines that say what was assumed and how the self-test ended.

    Raises:
        OperatorError: the file, its labels or its preprocessing cannot be used.
    """
    with _one_sentence(file):
        return _copy(file, target, labels, given)


@contextmanager
def _one_sentence(file: Path) -> Iterator[None]:
    """Turns what onnx, NumPy and pydantic raise over a malformed graph into one sentence."""
    try:
        yield
    except MemoryError:
        raise OperatorError(f"{file} needs more memory than there is.") from None
    except Exception as error:  # what the file holds decides what is raised
        if is_own(error):
            raise
        why = first_line(error).rstrip(".")
        raise OperatorError(f"{file} is malformed ({why}): export or download it again.") from None


def _copy(file: Path, target: Path, labels: Labels, given: Preprocessing) -> tuple[Manifest, str]:
    model = read_model(file)
    named = read_labels(file, metadata_of(model))
    categories = named.categories(labels.taxonomy)
    layout = find_layout(model, named)
    if layout:
        original = Original(file, model, picture_input(model), layout.outputs)
        made = served_detector(original, named, layout, given, target)
    else:
        names = [entry.name for entry in categories]
        made = _classifier(file, model, named, given, target, names)
    files = write_companions(target, categories, made.spec, made.detection)
    manifest = Manifest(
        files=files,
        digest=digest_of(files),
        categories=categories,
        input=made.spec,
        name=labels.name,
        version=labels.version,
        format="onnx",
        precision="int8" if is_quantized(model) else "fp32",
        activation=made.activation,
        detection=made.detection,
        localization=Localization.DETECTION if made.detection else Localization.NONE,
        licence=labels.licence,
        origin=labels.origin or file.name,
    )
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    notes = [*made.notes, *([] if made.is_batched else [ONE_BY_ONE])]
    return manifest, "\n".join([*notes, made.test])


def _classifier(
    file: Path,
    model: onnx.ModelProto,
    named: LabelSet,
    given: Preprocessing,
    target: Path,
    names: Sequence[str],
) -> Made:
    if given.boxes:
        raise OperatorError(
            "--boxes applies to detectors only, and the graph has no boxes: see docs/models.md."
        )
    source = picture_input(model)
    output = _output(model, named)
    facts = GraphFacts(source, own_range(model, source), metadata_of(model))
    spec, summary, card = describe_input(file, facts, given)
    original = Original(file, model, source, (output,))
    samples = probe_inputs(spec)
    numbers = original.numbers(original.input_of(scale(sample, spec)) for sample in samples)
    check_count(named, [numbers.shape[1]])
    answers = decide(numbers, _known(model, output, file, named, given))
    wrapping = Wrapping(source, output, spec, answers)
    expected = answers.confidences(numbers)
    is_batched = write_served(
        original,
        lambda one_by_one: served_graph(model, wrapping, one_by_one=one_by_one),
        target / ONNX_FILE,
        samples,
        {OUTPUT: expected},
    )
    is_plain = source.takes_bytes or source.channels == 1
    prepare = own_preprocessing(None if is_plain else card, spec)
    served = Served(target / ONNX_FILE)
    test = run_self_test(
        names,
        lambda shown: answers.confidences(original.numbers([original.input_of(prepare(shown))]))[0],
        lambda shown: served([reduce(Pixels.of(shown), spec)])[OUTPUT][0],
    )
    notes = [str(named), summary, answers.summary]
    notes += [] if np.ptp(expected, axis=0).max() > MAX_DIFFERENCE else [_same(len(samples))]
    return Made(spec, answers.activation, None, is_batched, notes, str(test))


def _same(pictures: int) -> str:
    return (
        f"The graph answers nearly the same for all of {pictures} different pictures: "
        "is it trained, and is its preprocessing the right one?"
    )


def _output(model: onnx.ModelProto, named: LabelSet) -> str:
    """Returns the output to serve; see `choose_output`."""
    widths = list(possible_outputs(model).values())
    known = [width for width in widths if width is not None]
    if known and len(known) == len(widths):
        check_count(named, known)
    return choose_output(model, len(named.names))


def _known(
    model: onnx.ModelProto, output: str, file: Path, named: LabelSet, given: Preprocessing
) -> Given:
    """Returns what is known about the answers before the graph is asked."""
    return Given(
        range=output_range(model, output),
        labels=named.names,
        activation=given.activation,
        is_multi_label=config_field(file, "problem_type") == "multi_label_classification",
        ends_in_softmax=last_operator(model, output) == "Softmax",
    )


def write_companions(
    target: Path,
    categories: Sequence[CategoryEntry],
    spec: InputSpec,
    detection: Detection | None = None,
) -> dict[str, FileEntry]:
    """Writes what decides the answers into files, so that the digest covers it.

    Returns:
        The manifest's `files`.
    """
    names = [entry.name for entry in categories]
    (target / LABELS_FILE).write_text(json.dumps(names, indent=1) + "\n")
    (target / SPEC_FILE).write_text(spec.model_dump_json(indent=1) + "\n")
    files = [ONNX_FILE, LABELS_FILE, SPEC_FILE]
    if detection:
        (target / DETECTION_FILE).write_text(detection.model_dump_json(indent=1) + "\n")
        files.append(DETECTION_FILE)
    optional = WEIGHTS_FILE, WEIGHTS, CALIBRATION_FILE
    files += [name for name in optional if (target / name).is_file()]
    return {name: describe_file(target / name) for name in files}
