"""Makes a model version from a Hugging Face folder: a classifier or a detector.

Only the command line uses it: torch and transformers take seconds to import.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from image_categorizer_server.domain.model import Activation
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.detect import is_detector
from image_categorizer_server.inference.models.manifest import (
    MANIFEST_FILE,
    NAME,
    Manifest,
    describe_file,
    digest_of,
)
from image_categorizer_server.inference.models.taxonomy import with_taxonomy
from image_categorizer_server.inference.packaging.folder import (
    CARD,
    CONFIG,
    WEIGHTS,
    check_files,
    read_json,
)
from image_categorizer_server.inference.packaging.label_files import labels_beside
from image_categorizer_server.inference.packaging.labels import mended_labels
from image_categorizer_server.inference.packaging.processor import (
    read_card,
    read_input_spec,
    reading,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "CARD",
    "CONFIG",
    "WEIGHTS",
    "Labels",
    "check_files",
    "check_name",
    "copy_model",
    "read_input_spec",
]

GENERIC = re.compile(r"LABEL_[0-9]+")
"""What transformers calls a category that has no name."""
SERVED = "input.json"
"""The input and the activation, so that the digest covers them."""


def check_name(name: str) -> None:
    """Passes a valid model name.

    Raises:
        OperatorError: the name is not valid.
    """
    if not NAME.fullmatch(name):
        raise OperatorError(
            f"'{name}' is not a valid model name: use up to 64 characters of a to z, 0 to 9, '.', "
            "'_' and '-', and start with a letter or digit."
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """The name of a new version, and what the user states about it."""

    name: str
    version: int
    licence: str = ""
    origin: str = ""
    taxonomy: Path | None = None


def _ignore(_sentence: str) -> None:
    pass


def copy_model(
    source: Path,
    target: Path,
    labels: Labels,
    activation: Activation | None = None,
    say: Callable[[str], None] = _ignore,
    stretched_px: int | None = None,
) -> Manifest:
    """Copies the model's files into `target` and writes the manifest there.

    What transformers of today does not read is written as it does: labels in a list, names of
    weights with a prefix, weights in several files, older image processors.

    Args:
        source: the user's folder.
        target: an empty folder.
        labels: name, version and origin of the new version.
        activation: the user's choice; None for what the configuration says.
        say: receives sentences on what was changed or assumed.
        stretched_px: for a detector, width and height to which whole pictures are resized, instead
            of what its image processor says.

    Raises:
        OperatorError: a file is missing or damaged, the weights do not fill the network, or the
            preprocessing is unknown.
    """
    check_files(source)
    from image_categorizer_server.inference.packaging.checkpoint import (
        copy_weights,
        filled_network,
    )
    from image_categorizer_server.inference.packaging.detector import detection_of

    _silence_transformers()
    config = _mended_config(source, say)
    (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    with reading(source, target):
        copy_weights(source, target)
    with reading(source / CONFIG, target):
        network = filled_network(source, target, say)
    if not is_detector(config) and stretched_px is not None:
        raise OperatorError(f"--size applies to ONNX files and detectors; {source} is neither.")
    card = read_card(source, _read_again(network, config), stretched_px)
    if card.content:
        (target / CARD).write_text(json.dumps(card.content, indent=1) + "\n")
    if card.note:
        say(card.note.strip())
    names = _names(network, source)
    chosen: Activation
    detection = None
    if is_detector(config):
        if activation:
            raise OperatorError(
                f"{source} is a detector, whose scores are known: omit --activation."
            )
        chosen, detection = "none", detection_of(network, card, len(names), source)
    else:
        chosen = activation or _activation(network, source)
    if chosen == "softmax" and len(names) == 1:
        raise OperatorError(
            "softmax of one number is always 1: omit --activation, or use sigmoid or none."
        )
    served: dict[str, object] = {"input": card.spec.model_dump(), "activation": chosen}
    if detection:
        served["detection"] = detection.model_dump()
    (target / SERVED).write_text(json.dumps(served, indent=1) + "\n")
    files = {
        file: describe_file(target / file)
        for file in (CONFIG, WEIGHTS, CARD, SERVED)
        if (target / file).is_file()
    }
    licence, origin = licence_and_origin(source, config)
    manifest = Manifest(
        name=labels.name,
        version=labels.version,
        digest=digest_of(files),
        files=files,
        categories=with_taxonomy(names, labels.taxonomy),
        input=card.spec,
        activation=chosen,
        detection=detection,
        licence=labels.licence or licence,
        origin=labels.origin or origin,
    )
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _silence_transformers() -> None:
    """Lets transformers print neither progress nor warnings: what matters becomes an error."""
    from transformers.utils import logging as their_logging

    their_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    their_logging.set_verbosity(logging.CRITICAL)


def _mended_config(source: Path, say: Callable[[str], None]) -> dict[str, object]:
    config = read_json(source / CONFIG)
    if config.get("quantization_config"):
        raise OperatorError(
            f"{source / CONFIG} has a quantization_config: save the network in float32, bfloat16 "
            "or float16, and add that folder. `models quantize` makes an int8 version of it."
        )
    names = mended_labels(config, source / CONFIG)
    if not names or all(GENERIC.fullmatch(name) for name in names):
        count = len(names) if names else config.get("num_labels")
        names = _labels_beside(source, count, say) or names
    if names is not None and "pretrained_cfg" not in config:
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
        config.pop("num_labels", None)
    return config


def _labels_beside(source: Path, count: object, say: Callable[[str], None]) -> list[str] | None:
    """Returns the labels of a file beside a configuration that names no category.

    Raises:
        OperatorError: it is malformed, or has another number of labels.
    """
    labels = labels_beside(source)
    if labels is None:
        return None
    if isinstance(count, int) and count != len(labels.names):
        raise OperatorError(
            f"{labels.place} has {len(labels.names)} labels, but the network has {count} outputs "
            f"by {source / CONFIG}: one label is needed for each."
        )
    say(str(labels))
    return list(labels.names)


def _read_again(network: "PreTrainedModel", config: Mapping[str, object]) -> dict[str, object]:
    """Returns the configuration with the defaults of its class that decide the input."""
    decisive = ("num_channels", "image_size")
    known = {key: getattr(network.config, key) for key in decisive if hasattr(network.config, key)}
    return {**config, **known}


def _names(network: "PreTrainedModel", source: Path) -> list[str]:
    by_index = {int(index): str(name) for index, name in (network.config.id2label or {}).items()}
    names = [by_index[index] for index in range(len(by_index)) if index in by_index]
    if not names or len(names) < len(by_index) or not all(name.strip() for name in names):
        raise OperatorError(f"{source / CONFIG}: the labels must count from 0 without gaps.")
    if any(name != _text(name) for name in names):
        raise OperatorError(f"{source / CONFIG}: a label is not text: it has half a character.")
    return names


def _text(given: str) -> str:
    """Returns text without halves of characters, which JSON allows and UTF-8 does not."""
    return given.encode(errors="replace").decode()


def _activation(network: "PreTrainedModel", source: Path) -> Activation:
    """Returns what transformers' pipeline applies to the outputs."""
    problem = network.config.problem_type
    if problem == "regression":
        raise OperatorError(
            f"{source / CONFIG}: problem_type is regression, so the network estimates numbers. "
            "If it answers with categories all the same, say how with --activation."
        )
    if problem == "multi_label_classification" or network.config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def licence_and_origin(source: Path, config: Mapping[str, object]) -> tuple[str, str]:
    """Returns the licence and the origin that a folder states; empty if it states none."""
    card = source / "README.md"
    licence = ""
    if card.is_file():
        head = card.read_text(errors="replace").split("\n---", 1)[0]
        licence = next(
            (
                line.split(":", 1)[1].strip()
                for line in head.splitlines()
                if line.startswith("license:")
            ),
            "",
        )
    return licence, _text(str(config.get("_name_or_path") or ""))
