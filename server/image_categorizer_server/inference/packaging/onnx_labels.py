"""The categories of an ONNX file, from files beside it or from its own metadata."""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.packaging.folder import CONFIG
from image_categorizer_server.inference.packaging.label_files import (
    LABEL_FILES,
    NAME_FIELDS,
    LabelSet,
    MalformedLabels,
    content_of,
    decoded,
    label_set_of,
    labels_beside,
)
from image_categorizer_server.inference.packaging.onnx_file import companion_folders


def read_labels(file: Path, metadata: Mapping[str, str]) -> LabelSet:
    """Returns the categories of an ONNX file.

    Args:
        file: the ONNX file; the first label file in its folder counts.
        metadata: the custom metadata of the graph; counts if there is no label file.

    Raises:
        OperatorError: there are no labels, or they are malformed.
    """
    for folder in companion_folders(file):
        if labels := labels_beside(folder, (*LABEL_FILES, CONFIG)):
            return labels
    for key in NAME_FIELDS:
        if text := metadata.get(key, "").strip():
            place = f"The metadata '{key}' of {file}"
            try:
                return label_set_of(_from_metadata(text), place)
            except MalformedLabels as error:
                raise OperatorError(f"{place} cannot be used: {error}.") from None
    raise OperatorError(
        f"{file.parent} has no label file: write labels.txt with one category per line, in the "
        "order of the network's outputs, or labels.json with a list."
    )


def config_field(file: Path, name: str) -> str:
    """Returns a text in the config.json of an ONNX file; empty if there is none."""
    for folder in companion_folders(file):
        try:
            value = json.loads(decoded(content_of(folder / CONFIG)))
        except (OSError, ValueError, RecursionError, MalformedLabels):
            continue
        if isinstance(value, dict):
            return str(value.get(name) or "")
    return ""


def _from_metadata(text: str) -> object:
    """Returns what a text of the metadata stands for: JSON, a Python literal, lines or words."""
    if text[0] in "[{(":
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(text)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        raise MalformedLabels("it is neither JSON nor a list")
    return [word.strip() for word in text.split("\n" if "\n" in text else ",") if word.strip()]


def check_count(labels: LabelSet, widths: Sequence[int]) -> None:
    """Passes labels of which there is one for each number of an output.

    Args:
        labels: the user's.
        widths: for each output, the number of values for one picture.

    Raises:
        OperatorError: the counts differ.
    """
    count = len(labels.names)
    if count in widths or (count == 2 and 1 in widths):
        return
    hint = ""
    if count + 1 in widths:
        why = "its numbers begin with 1: " if labels.is_from_one else ""
        hint = f"; {why}the first may be lacking, such as 'background'"
    found = " or ".join(map(str, widths))
    raise OperatorError(
        f"{labels.place} has {count} labels, but the graph returns {found} numbers for a picture"
        f"{hint}."
    )
