"""A model version → its int8 version, published only where it is about as often right.

export ─▶ calibrate, quantise ─▶ compare with fp32 ─▶ time both ─▶ publish
                                      └─▶ refuse past the loss allowed
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.export import ONNX_FILE, ExportReport, ensure_export
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.inference.packaging.evaluate import (
    BATCH_SIZE,
    OnStep,
    Picture,
    compare,
    labelled_pictures,
    pictures_in,
    speeds,
)
from image_categorizer_server.inference.packaging.quantize import (
    Calibration,
    quantize_graph,
    read_calibration,
    write_version,
)
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.settings.model import ModelSettings

ALL_CORES, ONE_CORE = 0, 1


def version_to_quantize(versions: Sequence[Found], name: str, version: int | None) -> Found:
    """Returns the version to start from: the one named, or the newest that is not int8.

    Raises:
        OperatorError: there is none, or it is int8 already.
    """
    wanted = [f for f in versions if f.name == name and version in (None, f.version)]
    if not wanted:
        told = name if version is None else f"{name} version {version}"
        raise OperatorError(f"There is no model {told}; `image-categorizer models list` shows all.")
    fp32 = [found for found in wanted if manifest_of(found).precision == "fp32"]
    if not fp32:
        raise OperatorError(f"{name} version {wanted[-1].version} is int8 already.")
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
    """Given each figure as soon as it is known, a sentence for a person."""

    def quantize(self, found: Found, calibrate: Path, evaluate: Path | None) -> Manifest:
        """Publishes the int8 version; returns its manifest.

        Args:
            found: the version to start from.
            calibrate: a folder of pictures.
            evaluate: labelled pictures, as `labelled_pictures` takes them; None compares the
                answers on the calibration pictures with those of fp32.

        Raises:
            OperatorError: the loss is larger than allowed, pictures are too few or
                unreadable, or the network cannot be exported or quantised.
        """
        manifest = manifest_of(found)
        preprocessor = Preprocessor(self.decoder, manifest.input)
        labelled = self._labelled(evaluate, manifest) if evaluate else None
        shown = self._calibration(calibrate, preprocessor)
        fp32, report = self._export(found, manifest)
        with self.repository.incoming() as incoming:
            int8 = incoming / ONNX_FILE
            quantize_graph(fp32, int8, shown.inputs, self.on_step)
            self._check_accuracy(fp32, int8, labelled or shown.pictures, preprocessor)
            before, after = (OnnxRuntime(file, ONE_CORE, runners=1) for file in (fp32, int8))
            self.say(f"{speeds(before, after, shown.inputs[:BATCH_SIZE], self.on_step)}.")
            number = self.repository.latest(manifest.name) + 1
            made = write_version(incoming, fp32, manifest, number, report.localization)
            self.repository.publish(incoming, made)
        return made

    def _labelled(self, path: Path, manifest: Manifest) -> list[Picture]:
        labelled = labelled_pictures(path, manifest.categories)
        least = self.models.quantize_min_pictures
        if len(labelled) < least:
            raise OperatorError(
                f"{path} holds {len(labelled)} labelled pictures, too few to compare with; "
                f"give at least {least}, better hundreds."
            )
        return labelled

    def _calibration(self, folder: Path, preprocessor: Preprocessor) -> Calibration:
        shown = read_calibration(
            pictures_in(folder),
            preprocessor,
            least=self.models.quantize_min_pictures,
            most=self.models.quantize_max_pictures,
            on_step=self.on_step,
        )
        if shown.unreadable:
            self.say(f"{shown.unreadable} files of {folder} are no images and were left out.")
        return shown

    def _export(self, found: Found, manifest: Manifest) -> tuple[Path, ExportReport]:
        self.on_step("Exporting", 0, 1)
        cache, timeout_s = self.models.cache_path, self.models.export_timeout_s
        file, report = asyncio.run(ensure_export(found.folder, manifest, cache, timeout_s))
        if not report.accepted:
            raise OperatorError(f"{manifest.name} cannot be quantised: {report.reason}.")
        self.on_step("Exporting", 1, 1)
        return file, report

    def _check_accuracy(
        self, fp32: Path, int8: Path, pictures: Sequence[Picture], preprocessor: Preprocessor
    ) -> None:
        """Refuses a loss past the one allowed."""
        before, after = (OnnxRuntime(file, ALL_CORES, runners=1) for file in (fp32, int8))
        comparison = compare(before, after, pictures, preprocessor, self.on_step)
        if comparison.loss_points <= self.max_loss_points:
            self.say(f"{comparison}.")
            return
        told = f"more than the {self.max_loss_points:g} points allowed; nothing was published"
        remedy = "Give more calibration pictures, or allow more with --max-loss."
        if not comparison.is_labelled:
            remedy = (
                "Not every other answer is a wrong one: "
                "give labelled pictures with --evaluate, or allow more with --max-loss."
            )
        raise OperatorError(f"{comparison}: {told}. {remedy}")
