"""models calibrate: fits confidences to how often the model is right."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    from image_categorizer_server.inference.evaluation.calibration import Fitted


def calibrate(
    name: Name,
    dataset: Dataset,
    version: Annotated[
        str,
        typer.Option(
            help="Version to calibrate: a number, or an alias. If not set, the one that answers."
        ),
    ] = "",
    groups: Annotated[
        Literal["auto", "none", "upper", "category"],
        typer.Option(
            help="One temperature for all pictures (none), or one for each upper category or each "
            "category that comes first and has enough pictures. auto chooses by cross-validation."
        ),
    ] = "auto",
    data: Data = None,
) -> None:
    """Add a version whose confidences are calibrated: of those of 0.8, four in five are right.

    Every second picture fits temperatures, one or one for each group of categories; the others show
    what they do. If they do not help, no version is added and the exit code is 1. The order of
    categories stays the same.
    """
    from image_categorizer_server.inference.evaluation.calibration import fit_calibration
    from image_categorizer_server.inference.evaluation.dataset import read_labelled_set

    settings = repository_settings(data)
    repository = open_repository(settings)
    found = repository.find(name, version)
    manifest = manifest_of(found)
    if manifest.detection:
        raise OperatorError(
            f"{name} version {found.version} is a detector, whose confidences are the largest "
            "scores of its boxes: a temperature is for classifiers. Choose a threshold in requests."
        )
    if manifest.is_calibrated:
        raise OperatorError(
            f"{name} version {found.version} is calibrated already; choose another by --version."
        )
    with evaluator_of(settings) as evaluator:
        answers = evaluator.ask(found, read_labelled_set(dataset), keep_all=True)
    fitted = fit_calibration(answers.known, manifest.activation, manifest.categories, groups)
    shown = _quality_sentence(fitted)
    if not fitted.helps:
        raise OperatorError(f"{shown}: calibrating does not help, so no version is added.")
    say(f"Temperature {fitted.temperature:g}, from {fitted.fitted} pictures. {fitted.choice}")
    for group, temperature in fitted.temperatures.items():
        say(f"  {temperature:<7g} {group}, from {fitted.pictures[group]} pictures")
    say(f"{shown}.")
    with repository.incoming() as incoming:
        number = repository.latest(name) + 1
        made = _write_calibrated(found, number, incoming, fitted, answers.dataset_digest)
        repository.publish(incoming, made)
    say(f"Added {name}, version {made.version}, {made.digest[:19]}")


def _quality_sentence(fitted: "Fitted") -> str:
    before, after = fitted.before, fitted.after
    inside = "inside groups, " if fitted.temperatures else ""
    return (
        f"Expected calibration error of {fitted.held_out} other pictures: {inside}"
        f"{before.ece:.3f} before, {after.ece:.3f} after; "
        f"{after.ece_by_chance:.3f} is chance on so many pictures. "
        f"Log loss: {before.log_loss:.3f} before, {after.log_loss:.3f} after"
    )


def _write_calibrated(
    found: Found, number: int, folder: Path, fitted: "Fitted", dataset_digest: str
) -> Manifest:
    """Copies a version into `folder`, with temperatures; returns its manifest."""
    before = manifest_of(found)
    for file in before.files:
        shutil.copyfile(found.folder / file, folder / file)
    record = CalibrationRecord(
        temperature=fitted.temperature,
        temperatures=dict(fitted.temperatures),
        pictures_by_group=dict(fitted.pictures),
        choice=fitted.choice,
        dataset_digest=dataset_digest,
        fitted_pictures=fitted.fitted,
        held_out_pictures=fitted.held_out,
        error_before=fitted.before.ece,
        error_after=fitted.after.ece,
        log_loss_before=fitted.before.log_loss,
        log_loss_after=fitted.after.log_loss,
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
            "temperatures": record.temperatures,
        }
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest
