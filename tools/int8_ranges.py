"""Measures the ranges of a packaged network's activations, and what int8 loses with them.

It also measures by how much int8 is off in the mean, which biases undo.

    python tools/int8_ranges.py validation_set.json [TARGET]

The first argument is a labelled set, see `image-categorizer evaluate`.  Every second picture shows
the ranges; top-1 and top-5 are measured on all, and on those that did not.  Run it on an idle
machine with VNNI or AMX: the speed is that of one core, by its own clock.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from image_categorizer_server.backend import image_limits
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.export import ONNX_FILE
from image_categorizer_server.inference.models.packaged import NAME
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.packaging.evaluate import (
    BATCH_SIZE,
    Picture,
    compare,
    labelled_pictures,
    read_input,
)
from image_categorizer_server.inference.packaging.huggingface import WEIGHTS
from image_categorizer_server.inference.packaging.int8_ranges import (
    Corrections,
    Ranges,
    RangesFile,
    activations,
    digest_of_weights,
    quantize_with_ranges,
)
from image_categorizer_server.inference.packaging.quantize import record_of
from image_categorizer_server.inference.runtimes.onnx import ERRORS_ONLY, INPUT, OnnxRuntime
from image_categorizer_server.settings import Settings
from numpy.typing import NDArray

TARGET = (
    Path(__file__).parents[1]
    / "server/image_categorizer_server/inference/data/int8"
    / f"{NAME}.json"
)
ROUNDS = 15
DIGITS = 6
Inputs = Sequence[NDArray[np.uint8]]
"""uint8 (H, W, 3) each."""


def ranges_of(file: Path, inputs: Inputs) -> Ranges:
    """Returns the least and the largest value of each activation that int8 needs."""
    model = onnx.load_model(file)
    names = sorted(activations(model))
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for found in values_of(model, names, inputs):
        lows = np.minimum(lows, [values.min() for values in found])
        highs = np.maximum(highs, [values.max() for values in found])
    return {
        name: (rounded(low), rounded(high))
        for name, low, high in zip(names, lows, highs, strict=True)
    }


def corrections_of(file: Path, ranges: Ranges, inputs: Inputs) -> Corrections:
    """Returns what undoes the mean error of int8 in each node without activation, in their order.

    Each is measured with those before it.
    """
    model = onnx.load_model(file)
    clipped = {node.input[0] for node in model.graph.node if node.op_type == "Clip"}
    names = [
        node.output[0]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm") and node.output[0] not in clipped
    ]
    wanted = means_of(model, names, inputs)
    corrections: dict[str, tuple[float, ...]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / ONNX_FILE
        for name in names:
            quantize_with_ranges(file, out, ranges, corrections)
            int8 = onnx.load_model(out)
            error = wanted[name] - means_of(int8, [dequantized(int8, name)], inputs).popitem()[1]
            corrections[name] = tuple(map(rounded, error))
    return corrections


def dequantized(model: onnx.ModelProto, name: str) -> str:
    """Returns the name of an activation after it was quantized and dequantized."""
    by_input = {node.input[0]: node for node in model.graph.node if "Linear" in node.op_type}
    return str(by_input[by_input[name].output[0]].output[0])


def means_of(
    model: onnx.ModelProto, names: Sequence[str], inputs: Inputs
) -> dict[str, NDArray[np.float64]]:
    """Returns the mean of activations, for each channel."""
    batches = [
        [values.reshape(*values.shape[:2], -1).mean(2, dtype=np.float64) for values in found]
        for found in values_of(model, names, inputs)
    ]
    means = [np.concatenate(side).mean(0) for side in zip(*batches, strict=True)]
    return dict(zip(names, means, strict=True))


def values_of(
    model: onnx.ModelProto, names: Sequence[str], inputs: Inputs
) -> Iterator[list[NDArray[np.float32]]]:
    """Yields the values of activations, batch by batch."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in model.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for start in range(0, len(inputs), BATCH_SIZE):
        yield session.run(names, {INPUT: np.stack(inputs[start : start + BATCH_SIZE])})


def rounded(number: float) -> float:
    """Returns a number with as many digits as the file has."""
    return float(f"{number:.{DIGITS}g}")


def core_ms(runtimes: Sequence[OnnxRuntime], inputs: Inputs) -> list[float]:
    """Returns the median time of one core for an image, in ms, of each runtime with one thread."""
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for runtime in runtimes:
            begun_s = time.thread_time()
            runtime.predict(inputs)
            times.append((time.thread_time() - begun_s) / len(inputs) * 1000)
        rounds.append(times)
    return [statistics.median(side) for side in zip(*rounds, strict=True)]


def measure(dataset: Path) -> tuple[RangesFile, list[float]]:
    """Returns the ranges with their records, and the core-ms for an image of fp32 and int8."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = write_version(NAME, 1, installed_weights(NAME), folder)
        fp32, int8 = folder / ONNX_FILE, folder / "int8.onnx"
        preprocessor = Preprocessor(Decoder(image_limits(Settings())), manifest.input)
        pictures = labelled_pictures(dataset, manifest.categories)
        inputs = inputs_of(pictures[::2], preprocessor)
        ranges = ranges_of(fp32, inputs)
        corrections = corrections_of(fp32, ranges, inputs)
        quantize_with_ranges(fp32, int8, ranges, corrections)
        runtimes = [OnnxRuntime(file, threads=1, runners=1) for file in (fp32, int8)]
        times = core_ms(runtimes, inputs[:BATCH_SIZE])
        record, held_out = (
            record_of(
                compare(runtimes[0], runtimes[1], part, preprocessor, no_progress),
                times[0] / times[1],
            )
            for part in (pictures, pictures[1::2])
        )
        weights_sha256 = digest_of_weights(folder / WEIGHTS)
    return RangesFile(
        weights_sha256=weights_sha256,
        calibrated_on=len(inputs),
        record=record,
        held_out=held_out,
        ranges=ranges,
        corrections=corrections,
    ), times


def no_progress(step: str, done: int, total: int) -> None:
    """Receives the steps of a comparison."""


def inputs_of(pictures: Sequence[Picture], preprocessor: Preprocessor) -> list[NDArray[np.uint8]]:
    """Returns the inputs of all pictures that are images."""
    found = (read_input(preprocessor, picture.file) for picture in pictures)
    return [array for array in found if array is not None]


def main() -> None:
    """Writes the file: one range a line."""
    dataset, *others = map(Path, sys.argv[1:])
    measured, times = measure(dataset)
    print(f"All: {measured.record}")
    print(f"Held out: {measured.held_out}")
    print(f"Core-ms for an image: fp32 {times[0]:.1f}, int8 {times[1]:.1f}")
    content = measured.model_dump(mode="json")
    parts = {key: content.pop(key) for key in ("ranges", "corrections")}
    text = json.dumps(content, indent=1).removesuffix("\n}")
    for key, rows in parts.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        text += f',\n "{key}": {{\n' + ",\n".join(lines) + "\n }"
    target = others[0] if others else TARGET
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"{text}\n}}\n")


if __name__ == "__main__":
    main()
