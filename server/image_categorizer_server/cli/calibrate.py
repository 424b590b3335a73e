"""models calibrate: fits confidences to how often the model is right."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from image_categorizer_server.cli.connection import Data
from image_categorizer_server.cli.evaluate import Dataset, evaluator_of
from image_categorizer_server.cli.model import Name, open_repository, repository_settings
from image_categorizer_server.cli.output import say
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import (
    CALIBRATION_FILE,
    MANIFEST_FILE,
    CalibrationRecord,
    Manifest,
    describe_file,
    digest_of,
)
from image_categorizer_server.inference.models.repository import Found, manifest_of

if TYPE_CHECKING:  # with the runtimes it imports takes a second
    from image_categorizer_server.inference.evaluation.temperature import Fitted


def calibrate(
    name: Name,
    dataset: Dataset,
    version: Annotated[
        str,
        typer.Option(
            help="Version to calibrate: a number, or an alias. If not set, the one that answers."
        ),
    ] = "",
    data: Data = None,
) -> None:
    """Add a version whose confidences are calibrated: of those of 0.8, four in five are right.

    Every second picture fits one number, the temperature; the others show what it does. If it does
    not help, no version is added and the exit code is 1. The order of categories stays the same.
    """
    from image_categorizer_server.inference.evaluation.dataset import read_labelled_set
    from image_categorizer_server.inference.evaluation.temperature import fit_temperature

    settings = repository_settings(data)
    repository = open_repository(settings)
    found = repository.find(name, version)
    manifest = manifest_of(found)
    if manifest.detection:
        raise OperatorError(
            f"{name} version {found.version} is a detector, whose confidences are the largest "
            "scores of its boxes: a temperature is for classifiers. Choose a threshold in requests."
        )
    if manifest.temperature != 1:
        raise OperatorError(
            f"{name} version {found.version} is calibrated already; choose another by --version."
        )
    with evaluator_of(settings) as evaluator:
        answers = evaluator.ask(found, read_labelled_set(dataset), keep_all=True)
    fitted = fit_temperature(answers.known, manifest.activation)
    shown = (
        f"Expected calibration error of {fitted.held_out} other pictures: "
        f"{fitted.before.ece:.3f} before, {fitted.after.ece:.3f} after; "
        f"{fitted.after.ece_by_chance:.3f} is chance on so many pictures"
    )
    if fitted.after.ece >= fitted.before.ece:
        raise OperatorError(f"{shown}: calibrating does not help, so no version is added.")
    say(f"Temperature {fitted.temperature:g}, from {fitted.fitted} pictures. {shown}.")
    with repository.incoming() as incoming:
        number = repository.latest(name) + 1
        made = _write_calibrated(found, number, incoming, fitted, answers.dataset_digest)
        repository.publish(incoming, made)
    say(f"Added {name}, version {made.version}, {made.digest[:19]}")


def _write_calibrated(
    found: Found, number: int, folder: Path, fitted: "Fitted", dataset_digest: str
) -> Manifest:
    """Copies a version into `folder`, with a temperature; returns its manifest."""
    before = manifest_of(found)
    for file in before.files:
        shutil.copyfile(found.folder / file, folder / file)
    record = CalibrationRecord(
        temperature=fitted.temperature,
        dataset_digest=dataset_digest,
        fitted_pictures=fitted.fitted,
        held_out_pictures=fitted.held_out,
        error_before=fitted.before.ece,
        error_after=fitted.after.ece,
    )
    # In a file of its own, so that the digest covers it: other confidences are another version.
    (folder / CALIBRATION_FILE).write_text(record.model_dump_json(indent=1) + "\n")
    files = before.files | {CALIBRATION_FILE: describe_file(folder / CALIBRATION_FILE)}
    manifest = before.model_copy(
        update={
            "version": number,
            "files": files,
            "digest": digest_of(files),
            "temperature": fitted.temperature,
        }
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest
