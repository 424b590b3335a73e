"""The weights of a Hugging Face folder: whether they are whole, and fill the network.

transformers fills what a checkpoint lacks with random numbers, and says so in a log only.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.packaging.folder import (
    CONFIG,
    WEIGHTS,
    listed,
    read_json,
    refuse_pointer,
    weight_files,
)
from image_categorizer_server.inference.runtimes.network import UnfilledNetwork, load_body

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# torch.compile, DataParallel, and the attribute of a Lightning module that holds the network.
PREFIXES = ("_orig_mod.", "module.", "model.")


def copy_weights(source: Path, target: Path) -> None:
    """Copies the weights into `target`; several files become one.

    Raises:
        OperatorError: a file is damaged, or a weight is not a finite number.
    """
    files = weight_files(source)
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        part = _read(file)
        if twice := sorted(tensors.keys() & part.keys()):
            raise OperatorError(f"{source} has weights twice: {listed(twice)}.")
        tensors |= part
    if not tensors:
        raise OperatorError(f"{files[0]} is empty: it has no weights.")
    if len(files) == 1:
        shutil.copyfile(files[0], target / WEIGHTS)
    else:
        save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})


def _read(file: Path) -> "dict[str, torch.Tensor]":
    """Returns the weights in a file, all of them finite."""
    with file.open("rb") as content:
        refuse_pointer(file, content.read(64))
    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise OperatorError(
            f"{file} is damaged or truncated ({error}): download or save it again."
        ) from None
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.float().isfinite().all()
    ]
    if wrong:
        raise OperatorError(
            f"{file} has weights that are infinite or not a number, as after a training that "
            f"diverged: {listed(wrong)}."
        )
    return tensors


def filled_network(source: Path, target: Path, say: Callable[[str], None]) -> "PreTrainedModel":
    """Returns the network that the weights in `target` fill, without prefixes where that fits.

    Args:
        source: the user's folder, for messages.
        target: its copy; the weights are replaced if their names had a prefix.
        say: receives a sentence on what was changed or ignored.

    Raises:
        OperatorError: weights are missing, or have other shapes.
    """
    try:
        body, ignored = load_body(target)
    except UnfilledNetwork as unfilled:
        if not _take_off_prefixes(target):
            raise OperatorError(_lacking(source, unfilled)) from None
        try:
            body, ignored = load_body(target)
        except UnfilledNetwork:
            raise OperatorError(_lacking(source, unfilled)) from None
        say("The names of the weights had a prefix, which is taken off.")
    if surplus := _surplus_layers(body, ignored):
        raise OperatorError(
            f"{source / CONFIG} describes fewer layers than the weights in {source} have "
            f"({listed(surplus)}), so the network would not be the one that was trained."
        )
    if ignored:
        say(f"The network has no place for {len(ignored)} of the weights: {listed(ignored)}.")
    return body


def _surplus_layers(body: "PreTrainedModel", ignored: Sequence[str]) -> list[str]:
    """Returns the ignored weights that continue a row of layers which the network has."""
    numbers = re.compile(r"\.\d+\.")
    rows = {numbers.sub(".#.", name) for name in body.state_dict() if numbers.search(name)}
    return [name for name in ignored if numbers.search(name) and numbers.sub(".#.", name) in rows]


def _lacking(source: Path, unfilled: UnfilledNetwork) -> str:
    """Returns a sentence on weights that do not fill the network."""
    for name, found, wanted in unfilled.mismatched:
        if found[:1] != wanted[:1] == (unfilled.labels,) and found[1:] == wanted[1:]:
            config = read_json(source / CONFIG)
            is_there = bool(config.get("id2label") or config.get("label2id"))
            place = f"{source / CONFIG} has {unfilled.labels} labels (id2label)"
            return (
                f"{place if is_there else f'{source} has {unfilled.labels} labels'}, but the "
                f"network has {found[0]} outputs ({name}): one label is needed for each."
            )
    if unfilled.mismatched:
        name, found, wanted = unfilled.mismatched[0]
        return (
            f"The weights in {source} do not fit config.json: {name} has the shape {found}, "
            f"but {wanted} is needed. They are of another network."
        )
    missing = unfilled.missing
    return (
        f"The weights in {source} do not fill the network: {len(missing)} of {unfilled.count} are "
        f"missing ({listed(missing)}). Add a folder that holds the whole classifier, its last "
        "layer included."
    )


def _take_off_prefixes(target: Path) -> bool:
    """Renames weights with a prefix; returns whether there were any."""
    tensors = _read(target / WEIGHTS)
    renamed = {without_prefixes(name): tensor for name, tensor in tensors.items()}
    if len(renamed) < len(tensors) or renamed.keys() == tensors.keys():
        return False
    save_file(renamed, target / WEIGHTS, metadata={"format": "pt"})
    return True


def without_prefixes(name: str) -> str:
    """Returns the name that a weight had before its network was wrapped."""
    name = name.replace("._orig_mod.", ".")  # part of the network was compiled
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name
