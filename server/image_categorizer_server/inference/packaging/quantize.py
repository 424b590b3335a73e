"""Makes the int8 version of a model, and publishes it only if it is about as accurate.

    export ─▶ calibrate, quantize, compare with fp32 ─▶ time the better ─▶ publish
              once with each way to find ranges      └─▶ refuse if the loss is too large

ONNX Runtime quantizes statically: calibration pictures show the range of every activation.  Weights
are int8 with a scale for each output channel; activations are uint8.  Which ranges suit depends on
the network: cut at a percentile, outliers do not make the steps coarse; whole, nothing is cut off.
So both are tried.  Scaling, softmax or sigmoid, and nodes that only the features need stay float.
"""

import asyncio
import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.evaluation.answers import OnStep
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.export import (
    ONNX_FILE,
    WEIGHTS_FILE,
    ExportReport,
    ensure_export,
)
from image_categorizer_server.inference.models.manifest import (
    CALIBRATION_FILE,
    MANIFEST_FILE,
    Manifest,
    QuantizationRecord,
    RangesOf,
    digest_of,
)
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.inference.packaging.evaluate import (
    BATCH_SIZE,
    Comparison,
    Picture,
    compare,
    labelled_pictures,
    pictures_in,
    pictures_text,
    read_input,
    speeds,
)
from image_categorizer_server.inference.packaging.foreign import is_own
from image_categorizer_server.inference.packaging.onnx import first_line, write_companions
from image_categorizer_server.inference.packaging.onnx_graph import is_quantized
from image_categorizer_server.inference.runtimes.onnx import INPUT, OUTPUT, OnnxRuntime
from image_categorizer_server.settings.model import ModelSettings

ALL_CORES, ONE_CORE = 0, 1
# Operators that compute, and those between them, which would otherwise convert to floats and back.
OPERATORS = ["Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool"]
METHODS: Mapping[RangesOf, CalibrationMethod] = {
    "percentile": CalibrationMethod.Percentile,
    "min-max": CalibrationMethod.MinMax,
}
"""How the range of an activation is found.  The first is kept if both are as good."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The pictures that show the ranges of the activations."""

    inputs: tuple[NDArray[np.uint8], ...]
    """uint8 (H, W, 3) each."""
    pictures: tuple[Picture, ...]
    unreadable: int
    """Number of files that are not images."""


def read_calibration(
    found: Sequence[Picture],
    preprocessor: Preprocessor,
    *,
    min_count: int,
    max_count: int,
    on_step: OnStep,
) -> Calibration:
    """Returns inputs of at most `max_count` pictures, spread evenly over those found; blocks.

    Raises:
        OperatorError: fewer than `min_count` of them can be decoded.
    """
    chosen = [found[index * len(found) // max_count] for index in range(max_count)]
    chosen = list(found) if len(found) <= max_count else chosen
    inputs, pictures = [], []
    for number, picture in enumerate(chosen, 1):
        array = read_input(preprocessor, picture.file)
        if array is not None:
            inputs.append(array)
            pictures.append(picture)
        on_step("Reading", number, len(chosen))
    if len(inputs) < min_count:
        raise OperatorError(
            f"There are too few calibration pictures ({len(inputs)}): "
            f"provide at least {min_count} like those that will be classified."
        )
    return Calibration(tuple(inputs), tuple(pictures), len(chosen) - len(inputs))


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # published without types
    """Returns batches by range, so that ONNX Runtime need not keep the results of all in memory."""

    def __init__(self, inputs: Sequence[NDArray[np.uint8]], on_step: OnStep) -> None:
        self._batches = [
            np.stack(inputs[start : start + BATCH_SIZE])
            for start in range(0, len(inputs), BATCH_SIZE)
        ]
        self._on_step = on_step
        self._next: Iterator[tuple[int, NDArray[np.uint8]]] = iter(())

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Selects the next batches."""
        self._next = iter([*enumerate(self._batches)][start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Returns the next batch, None after the last."""
        number, batch = next(self._next, (0, None))
        if batch is None:
            return None
        self._on_step("Calibrating", number + 1, len(self._batches))
        return {INPUT: batch}


def quantize_graph(
    file: Path, out: Path, inputs: Sequence[NDArray[np.uint8]], ranges: RangesOf, on_step: OnStep
) -> None:
    """Writes the int8 version of a graph to `out`; blocks for seconds to minutes.

    Args:
        file: the fp32 graph.
        out: the file to write.
        inputs: uint8 (H, W, 3) each; they show the ranges.
        ranges: how to find them.
        on_step: receives the progress.

    Raises:
        OperatorError: ONNX Runtime cannot quantize the graph, or finds nothing to quantize.
    """
    with tempfile.TemporaryDirectory(prefix="image-categorizer-") as scratch:
        prepared = Path(scratch) / ONNX_FILE
        try:
            # ONNX Runtime prints its progress; the progress bar replaces that.
            with contextlib.redirect_stdout(io.StringIO()):
                quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
                quantize_static(
                    str(prepared),
                    str(out),
                    _Reader(inputs, on_step),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=OPERATORS,
                    nodes_to_exclude=nodes_only_for_features(onnx.load_model(prepared)),
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=METHODS[ranges],
                    # Applies to every method despite its name: the number of batches whose
                    # results are in memory at once.
                    extra_options={"CalibStridedMinMax": 1},
                )
        except Exception as error:  # its errors have no common class
            if is_own(error):
                raise
            raise OperatorError(f"ONNX Runtime cannot quantize it: {first_line(error)}") from None
    if not is_quantized(onnx.load_model(out)):
        raise OperatorError("The network has no convolution and no matrix product to quantize.")


def nodes_only_for_features(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes that the confidences do not depend on."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    open_names, needed = [OUTPUT], set()
    while open_names:
        node = made_by.get(open_names.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            open_names.extend(node.input)
    return [node.name for node in model.graph.node if node.name not in needed]


def write_version(
    folder: Path,
    fp32: Path,
    manifest: Manifest,
    version: int,
    report: ExportReport,
    record: QuantizationRecord,
) -> Manifest:
    """Completes the int8 version in `folder`; returns its manifest.

    Args:
        folder: holds the int8 graph, `model.onnx`.
        fp32: the fp32 graph; category weights are in the same folder if there are any.
        manifest: of the fp32 version.
        version: the number of the int8 version.
        report: on `fp32`; the features locate categories in the same way.
        record: what int8 loses and gains.
    """
    weights = fp32.parent / WEIGHTS_FILE
    if weights.is_file():
        shutil.copyfile(weights, folder / WEIGHTS_FILE)
    made_from = f"int8 of {manifest.name} version {manifest.version}, {manifest.digest}"
    files = write_companions(folder, manifest.categories, manifest.input)
    quantized = Manifest.model_validate(
        manifest.model_dump()
        | {
            "files": files,
            "digest": digest_of(files),
            "version": version,
            "format": "onnx",
            "architecture": "",
            "precision": "int8",
            "localization": report.localization,
            "cell_offset": report.cell_offset,
            "origin": f"{made_from}; {manifest.origin}".rstrip("; "),
            "quantization": record,
        }
    )
    (folder / MANIFEST_FILE).write_text(quantized.model_dump_json(indent=1) + "\n")
    return quantized


def version_to_quantize(versions: Sequence[Found], name: str, version: int | None) -> Found:
    """Returns the version to quantize: the given one, or the newest that is not int8.

    Raises:
        OperatorError: there is no such version, or it is already int8.
    """
    wanted = [f for f in versions if f.name == name and version in (None, f.version)]
    if not wanted:
        missing = name if version is None else f"{name} version {version}"
        raise OperatorError(
            f"There is no model {missing}. Run `image-categorizer models list` to see all models."
        )
    if manifest_of(wanted[-1]).detection:
        raise OperatorError(
            f"{name} version {wanted[-1].version} is a detector, of which int8 versions cannot be "
            "proven: their boxes are not compared. Add a quantized ONNX file of it instead."
        )
    fp32 = [found for found in wanted if manifest_of(found).precision == "fp32"]
    if not fp32:
        raise OperatorError(f"{name} version {wanted[-1].version} is already int8.")
    return max(fp32, key=lambda found: found.version)


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Makes int8 versions; its methods block for seconds to minutes."""

    repository: Repository
    decoder: Decoder
    models: ModelSettings
    max_loss_points: float
    on_step: OnStep
    say: Callable[[str], None]
    """Receives each result as a sentence, as soon as it is known."""

    def quantize(self, found: Found, calibrate: Path, evaluate: Path | None) -> Manifest:
        """Publishes the int8 version; returns its manifest.

        Args:
            found: the version to quantize.
            calibrate: a folder of pictures.
            evaluate: labelled pictures, see `labelled_pictures`; None compares the answers for the
                calibration pictures with those of fp32.

        Raises:
            OperatorError: the loss is too large, there are too few readable pictures, or the
                network cannot be exported or quantized.
        """
        manifest = manifest_of(found)
        preprocessor = Preprocessor(self.decoder, manifest.input)
        labelled = self._labelled(evaluate, manifest) if evaluate else None
        calibration = self._calibration(calibrate, preprocessor)
        fp32, report = self._export(found, manifest)
        with self.repository.incoming() as incoming:
            int8 = incoming / ONNX_FILE
            pictures = labelled or calibration.pictures
            ranges, comparison = self._write_better(
                fp32, int8, calibration.inputs, pictures, preprocessor
            )
            before, after = (OnnxRuntime(file, ONE_CORE, runners=1) for file in (fp32, int8))
            timed = speeds(before, after, calibration.inputs[:BATCH_SIZE], self.on_step)
            self.say(f"{timed}.")
            if manifest.is_calibrated:
                shutil.copyfile(found.folder / CALIBRATION_FILE, incoming / CALIBRATION_FILE)
            number = self.repository.latest(manifest.name) + 1
            record = record_of(comparison, timed.ratio, ranges)
            made = write_version(incoming, fp32, manifest, number, report, record)
            self.repository.publish(incoming, made)
        return made

    def _labelled(self, path: Path, manifest: Manifest) -> list[Picture]:
        labelled = labelled_pictures(path, manifest.categories)
        min_count = self.models.quantize_min_pictures
        if len(labelled) < min_count:
            raise OperatorError(
                f"{path} has too few labelled pictures ({len(labelled)}): "
                f"provide at least {min_count}, better hundreds."
            )
        return labelled

    def _calibration(self, folder: Path, preprocessor: Preprocessor) -> Calibration:
        calibration = read_calibration(
            pictures_in(folder),
            preprocessor,
            min_count=self.models.quantize_min_pictures,
            max_count=self.models.quantize_max_pictures,
            on_step=self.on_step,
        )
        if calibration.unreadable:
            self.say(f"Skipped {calibration.unreadable} files in {folder} that are not images.")
        return calibration

    def _export(self, found: Found, manifest: Manifest) -> tuple[Path, ExportReport]:
        self.on_step("Exporting", 0, 1)
        cache, timeout_s = self.models.cache_path, self.models.export_timeout_s
        file, report = asyncio.run(ensure_export(found.folder, manifest, cache, timeout_s))
        if not report.accepted:
            raise OperatorError(f"{manifest.name} cannot be quantized: {report.reason}.")
        self.on_step("Exporting", 1, 1)
        return file, report

    def _write_better(
        self,
        fp32: Path,
        int8: Path,
        inputs: Sequence[NDArray[np.uint8]],
        pictures: Sequence[Picture],
        preprocessor: Preprocessor,
    ) -> tuple[RangesOf, Comparison]:
        """Writes the int8 graph that loses least to `int8`; returns its ranges and its comparison.

        Raises:
            OperatorError: its loss is too large.
        """
        found: dict[RangesOf, Comparison] = {}
        with tempfile.TemporaryDirectory(prefix=".int8-", dir=int8.parent) as scratch:
            files: dict[RangesOf, Path] = {each: Path(scratch) / f"{each}.onnx" for each in METHODS}
            for ranges, file in files.items():
                quantize_graph(fp32, file, inputs, ranges, self.on_step)
                before, after = (OnnxRuntime(each, ALL_CORES, runners=1) for each in (fp32, file))
                found[ranges] = compare(before, after, pictures, preprocessor, self.on_step)
                self.say(f"Ranges by {ranges}: {found[ranges]}.")
            better = min(found, key=lambda each: found[each].badness)
            check_loss(found[better], self.max_loss_points)
            files[better].rename(int8)
        self.say(f"Ranges by {better} are kept.")
        return better, found[better]


def record_of(
    comparison: Comparison, speed: float, ranges: RangesOf | None = None
) -> QuantizationRecord:
    """Returns what a manifest holds of a comparison of fp32 and int8.

    Args:
        comparison: of their answers.
        speed: of int8, divided by that of fp32.
        ranges: how those of the activations were found.
    """
    return QuantizationRecord(
        pictures=comparison.pictures,
        is_labelled=comparison.is_labelled,
        fp32_top_1=comparison.right_before,
        int8_top_1=comparison.right_after,
        fp32_top_5=comparison.top_5_before,
        int8_top_5=comparison.top_5_after,
        speed=round(speed, 2),
        ranges=ranges,
    )


def check_loss(comparison: Comparison, max_loss_points: float) -> None:
    """Passes an int8 graph that loses as many pictures as allowed, or fewer.

    Args:
        comparison: of fp32 and int8.
        max_loss_points: see `Comparison.allowed_pictures`.

    Raises:
        OperatorError: it loses more.
    """
    lost, allowed = comparison.lost_pictures, comparison.allowed_pictures(max_loss_points)
    if lost <= allowed:
        return
    remedy = "Provide more calibration pictures, or raise --max-loss."
    if not comparison.is_labelled:
        remedy = (
            "A different answer is not always a wrong one: "
            "provide labelled pictures with --evaluate, or raise --max-loss."
        )
    raise OperatorError(
        f"{comparison}: {pictures_text(lost)} lost, {max_loss_points:g} points allow {allowed}; "
        f"nothing was published. {remedy}"
    )
