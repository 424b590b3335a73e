"""Taxonomies: identifiers and ancestors of categories, from a file or the packaged ImageNet one."""

from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import CategoryEntry

IMAGENET_FILE = "imagenet1k.json"
# The names are ImageNet's if so many are equal: Hugging Face spells a few synsets differently.
MIN_EQUAL_SHARE = 0.95
ENTRIES = TypeAdapter(list[CategoryEntry])


def with_taxonomy(names: Sequence[str], file: Path | None) -> tuple[CategoryEntry, ...]:
    """Returns the categories in order, with unique names.

    Args:
        names: the network's categories, in the order of its outputs.
        file: a JSON list of `CategoryEntry` with every name; None for the packaged ImageNet
            taxonomy, if the names are those of ImageNet, or else for no taxonomy.

    Raises:
        OperatorError: the file cannot be read, is malformed or lacks a category.
    """
    return _with_unique_names(_from_file(names, file) if file else _as_imagenet(names))


def imagenet_categories() -> tuple[CategoryEntry, ...]:
    """Returns ImageNet's 1,000 categories in their usual order, with short unique names.

    A short name is the first of a synset's words: "tabby" of "tabby, tabby cat".
    """
    imagenet = _imagenet()
    taken = Counter(_first_word(entry) for entry in imagenet)
    return _with_unique_names(
        [
            entry.model_copy(update={"name": _first_word(entry)})
            if taken[_first_word(entry)] == 1
            else entry
            for entry in imagenet
        ]
    )


def _first_word(entry: CategoryEntry) -> str:
    return entry.name.split(",")[0]


def _with_unique_names(entries: Sequence[CategoryEntry]) -> tuple[CategoryEntry, ...]:
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
            f"{file} is not a taxonomy: {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from None
    missing = [name for name in names if name not in known]
    if missing:
        raise OperatorError(
            f"{file} lacks {len(missing)} of the model's categories, such as '{missing[0]}'."
        )
    return [known[name] for name in names]


def _imagenet() -> list[CategoryEntry]:
    folder = resources.files("image_categorizer_server") / "inference/data/taxonomies"
    return ENTRIES.validate_json((folder / IMAGENET_FILE).read_bytes())


def _as_imagenet(names: Sequence[str]) -> list[CategoryEntry]:
    imagenet = _imagenet()
    background = len(names) == len(imagenet) + 1  # networks from TensorFlow have one more in front
    rows = [CategoryEntry(name=names[0]), *imagenet] if background else imagenet
    equal = sum(name == row.name for name, row in zip(names, rows, strict=False))
    if len(names) != len(rows) or equal < MIN_EQUAL_SHARE * len(rows):
        return [CategoryEntry(name=name) for name in names]
    return [row.model_copy(update={"name": name}) for name, row in zip(names, rows, strict=True)]
