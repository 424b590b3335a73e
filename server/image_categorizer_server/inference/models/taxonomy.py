"""Identifiers and broader categories: ImageNet's ship with us, others from a file."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import CategoryEntry

IMAGENET_FILE = "imagenet1k.json"
# Hugging Face cards spell a few synsets their own way.
LEAST_SHARE_ALIKE = 0.95
ENTRIES = TypeAdapter(list[CategoryEntry])


def with_taxonomy(names: Sequence[str], file: Path | None) -> tuple[CategoryEntry, ...]:
    """Returns the categories, in order and with unique names.

    Args:
        names: the network's categories, in the order of its outputs.
        file: a JSON list of `{"name", "id", "ancestors"}` that holds every name; None asks whether
            the names are ImageNet's thousand, which need no file.

    Raises:
        OperatorError: the file is malformed or misses a category.
    """
    entries = _from_file(names, file) if file else _as_imagenet(names)
    taken = Counter(entry.name for entry in entries)
    return tuple(
        entry.model_copy(update={"name": f"{entry.name} ({entry.id or index})"})
        if taken[entry.name] > 1
        else entry
        for index, entry in enumerate(entries)
    )


def _from_file(names: Sequence[str], file: Path) -> list[CategoryEntry]:
    try:
        known = {entry.name: entry for entry in ENTRIES.validate_json(file.read_bytes())}
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise OperatorError(
            f"{file} is no taxonomy: {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from None
    missing = [name for name in names if name not in known]
    if missing:
        raise OperatorError(
            f"{file} misses {len(missing)} of the model's categories, such as '{missing[0]}'."
        )
    return [known[name] for name in names]


def _as_imagenet(names: Sequence[str]) -> list[CategoryEntry]:
    table = (
        resources.files("image_categorizer_server")
        .joinpath("inference/data/taxonomies", IMAGENET_FILE)
        .read_text()
    )
    imagenet = ENTRIES.validate_python(json.loads(table))
    background = len(names) == len(imagenet) + 1  # TensorFlow's networks have one more in front
    rows = [CategoryEntry(name=names[0]), *imagenet] if background else imagenet
    alike = sum(name == row.name for name, row in zip(names, rows, strict=False))
    if len(names) != len(rows) or alike < LEAST_SHARE_ALIKE * len(rows):
        return [CategoryEntry(name=name) for name in names]
    return [row.model_copy(update={"name": name}) for name, row in zip(names, rows, strict=True)]
