"""Makes a model version from an ONNX file, its labels and its preprocessing.

read ─▶ labels ─▶ input ─▶ ask the original about many pictures ─▶ what are its answers?
                               │                                         │
                               └────────── compare ◀── graph to serve ◀──┘
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
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
from image_categorizer_server.inference.packaging.onnx_file import onnx_file, read_model
from image_categorizer_server.inference.packaging.onnx_graph import (
    LUMA,
    PictureInput,
    Wrapping,
    can_scan,
    choose_output,
    is_quantized,
    metadata_of,
    own_range,
    picture_input,
    possible_outputs,
    scales_by_batch,
    served_graph,
)
from image_categorizer_server.inference.packaging.onnx_input import (
    GraphFacts,
    Preprocessing,
    describe_input,
)
from image_categorizer_server.inference.packaging.onnx_labels import (
    check_count,
    problem_type,
    read_labels,
)
from image_categorizer_server.inference.packaging.onnx_ranges import last_operator, output_range
from image_categorizer_server.inference.packaging.onnx_selftest import (
    own_preprocessing,
    run_self_test,
    scale,
)
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT

__all__ = ["copy_onnx", "first_line", "onnx_file", "write_companions"]
SPEC_FILE = "input.json"
FATAL_ONLY = 4
MAX_REASON = 300
RUNTIME_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
MAX_BATCH, BATCH_BYTES = 8, 32 * 2**20
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
    source = picture_input(model)
    output = _output(model, named)
    facts = GraphFacts(source, own_range(model, source), metadata_of(model))
    spec, summary, card = describe_input(file, facts, given)
    original = Original(file, model, source, output)
    samples = probe_inputs(spec)
    numbers = original.numbers(original.input_of(scale(sample, spec)) for sample in samples)
    check_count(named, [numbers.shape[1]])
    answers = decide(numbers, _known(model, output, file, named, given))
    wrapping = Wrapping(source, output, spec, answers)
    expected = answers.confidences(numbers)
    is_batched = _write_served(model, wrapping, target / ONNX_FILE, samples, expected)
    categories = named.categories(labels.taxonomy)
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
        activation=answers.activation,
        licence=labels.licence,
        origin=labels.origin or file.name,
    )
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    is_plain = source.takes_bytes or source.channels == 1
    prepare = own_preprocessing(None if is_plain else card, spec)
    served = Served(target / ONNX_FILE)
    test = run_self_test(
        [entry.name for entry in categories],
        lambda shown: answers.confidences(original.numbers([original.input_of(prepare(shown))]))[0],
        lambda shown: served([reduce(Pixels.of(shown), spec)])[0],
    )
    notes = [str(named), summary, answers.summary]
    notes += [] if is_batched else [ONE_BY_ONE]
    notes += [] if np.ptp(expected, axis=0).max() > MAX_DIFFERENCE else [_same(len(samples))]
    return manifest, "\n".join([*notes, str(test)])


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
        is_multi_label=problem_type(file) == "multi_label_classification",
        ends_in_softmax=last_operator(model, output) == "Softmax",
    )


@dataclass(frozen=True)
class Original:
    """The user's own graph in ONNX Runtime; it gets one picture at a time."""

    file: Path
    model: onnx.ModelProto
    source: PictureInput
    output: str

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return _session(self.model.SerializeToString())

    def input_of(self, scaled: NDArray[np.float32]) -> NDArray[np.generic]:
        """Returns the input of the graph for a scaled picture, float (H, W, 3)."""
        source, picture = self.source, scaled
        if source.channels == 1:
            picture = (picture @ np.array(LUMA, np.float32))[..., None]
            picture = picture + np.float32(0.5) if source.takes_bytes else picture
        elif source.is_bgr:
            picture = picture[..., ::-1]
        if source.layout == "NCHW":
            picture = picture.transpose(2, 0, 1)
        kind = onnx.helper.tensor_dtype_to_np_dtype(source.element)
        return np.repeat(picture[None].astype(kind), source.batch or 1, axis=0)

    def numbers(self, inputs: Iterable[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Returns what the graph answers, a row for each input.

        Raises:
            OperatorError: it fails, answers no numbers, or rows of different lengths.
        """
        try:
            rows = [self._row(values) for values in inputs]
        except Exception as error:  # ONNX Runtime's errors have no common class
            if is_own(error):
                raise
            raise OperatorError(
                f"ONNX Runtime cannot run {self.file}: {first_line(error)}"
            ) from None
        if len({row.size for row in rows}) != 1:
            raise OperatorError(f"{self.file} returns rows of different lengths.")
        numbers = np.stack(rows).astype(np.float32)
        if not np.isfinite(numbers).all():
            raise OperatorError(
                f"{self.file} returns numbers that are not finite (NaN or infinity): its weights "
                "are damaged, or it overflows."
            )
        return numbers

    def _row(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        answer = np.asarray(self._session.run([self.output], {self.source.name: values})[0])
        if answer.ndim == 0 or answer.shape[0] != len(values):
            shape = " x ".join(map(str, answer.shape)) or "one number"
            raise OperatorError(
                f"{self.file} returns {shape} for a batch of {len(values)}, not a row for each "
                "picture."
            )
        row: NDArray[np.float32] = answer[0].ravel()
        return row


class Served:
    """The graph that will be served, in ONNX Runtime."""

    def __init__(self, file: Path) -> None:
        self._session = _session(file)

    def __call__(self, inputs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Returns the confidences of inputs (H, W, 3), a row for each."""
        confidences: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: np.stack(inputs)})[0]
        return confidences


def _write_served(
    model: onnx.ModelProto,
    wrapping: Wrapping,
    file: Path,
    samples: Sequence[NDArray[np.uint8]],
    expected: NDArray[np.float32],
) -> bool:
    """Writes a graph that answers like the original, for one image and for several.

    Returns:
        Whether it takes all pictures of a batch together; else it is called once for each.

    Raises:
        OperatorError: no graph does.
    """
    wrong: str | None = "the scale of its 8-bit numbers depends on the whole batch"
    if not scales_by_batch(model):
        onnx.save_model(served_graph(model, wrapping), file)
        wrong = _difference(file, samples, expected)
    if wrong is None:
        return True
    if can_scan(model, wrapping.source):
        onnx.save_model(served_graph(model, wrapping, one_by_one=True), file)
        if (still := _difference(file, samples, expected)) is None:
            return False
        wrong = still
    batch = wrapping.source.batch
    remedy = f"export it with a dynamic batch size instead of {batch}" if batch else wrong
    raise OperatorError(f"The graph cannot be served in batches of any size: {remedy}.")


def _difference(
    file: Path, samples: Sequence[NDArray[np.uint8]], expected: NDArray[np.float32]
) -> str | None:
    """Returns how a served graph differs from the original; None if it answers alike."""
    batch = min(max(BATCH_BYTES // samples[0].nbytes, 2), MAX_BATCH)
    starts = [0, *range(1, len(samples), batch), len(samples)]
    try:
        served = Served(file)
        answered = np.concatenate(
            [served(samples[start:end]) for start, end in itertools.pairwise(starts)]
        )
    except Exception as error:  # ONNX Runtime's errors have no common class
        if is_own(error):
            raise
        return first_line(error)
    if answered.shape != expected.shape:
        return f"it answers {len(samples)} pictures with {answered.shape[0]} rows"
    difference = float(np.abs(answered - expected).max())
    if not difference <= MAX_DIFFERENCE:  # also where it is not a number
        return f"confidences differ by up to {difference:.2g} from those for one picture"
    return None


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
    optional = WEIGHTS_FILE, WEIGHTS, CALIBRATION_FILE
    files += [name for name in optional if (target / name).is_file()]
    return {name: describe_file(target / name) for name in files}


def _session(graph: Path | bytes) -> onnxruntime.InferenceSession:
    """Returns a session that prints nothing to standard error: its exceptions say the same."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    line = RUNTIME_CODE.sub("", (str(error).strip().splitlines() or [type(error).__name__])[0])
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"
