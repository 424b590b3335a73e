"""The categories of an ONNX file, from files beside it or from its own metadata."""

import ast
import codecs
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import CategoryEntry
from image_categorizer_server.inference.models.taxonomy import imagenet_categories, with_taxonomy
from image_categorizer_server.inference.packaging.huggingface import CONFIG
from image_categorizer_server.inference.packaging.onnx_file import companion_folders, refuse_pointer

LABELS_FILE = "labels.json"
LABEL_FILES = (
    "labels.txt",
    LABELS_FILE,
    "classes.txt",
    "classes.json",
    "class_names.txt",
    "class_names.json",
    "class_to_idx.json",
    "class_indices.json",
    "imagenet_class_index.json",
    "synset.txt",
    CONFIG,
)
METADATA_KEYS = (
    "names",
    "classes",
    "labels",
    "class_names",
    "id2label",
    "categories",
    "class_to_idx",
)
# Where JSON may hold the names; a config has other fields too.
FIELDS = ("id2label", "label2id", *METADATA_KEYS, "idx_to_class")
MAX_BYTES = 16 * 2**20
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:,;=\t]\s*|\s+)(\S.*)")
SYNSET = re.compile(r"(n\d{8})(?:[\s,:]+(\S.*))?")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Numbered = dict[int, object]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The categories that a user names, in the order of the network's outputs."""

    names: tuple[str, ...]
    place: str
    """The file, or what else holds them."""
    ids: tuple[str, ...] = ()
    """WordNet identifiers, if all categories have one."""
    is_from_one: bool = False
    """Whether they were numbered from 1."""

    def __str__(self) -> str:
        shown = ", ".join(f"'{name}'" for name in self.names[:3])
        count = " Their numbers begin with 1, which is the first output." * self.is_from_one
        place = self.place.replace("The metadata", "the metadata", 1)
        return f"Labels of {place}: {shown}{' and so on' if self.names[3:] else ''}.{count}"

    def categories(self, taxonomy: Path | None) -> tuple[CategoryEntry, ...]:
        """Returns the categories with their taxonomy; see `with_taxonomy`."""
        if taxonomy is None and self.ids:
            imagenet = imagenet_categories()
            if self.ids == tuple(entry.id for entry in imagenet):
                return imagenet
        entries = with_taxonomy(self.names, taxonomy)
        if not self.ids:
            return entries
        return tuple(
            entry if entry.id else entry.model_copy(update={"id": wordnet})
            for entry, wordnet in zip(entries, self.ids, strict=True)
        )


class _Malformed(Exception):
    """A sentence on what is wrong, without the place."""


def read_labels(file: Path, metadata: Mapping[str, str]) -> LabelSet:
    """Returns the categories of an ONNX file.

    Args:
        file: the ONNX file; the first label file in its folder counts.
        metadata: the custom metadata of the graph; counts if there is no label file.

    Raises:
        OperatorError: there are no labels, or they are malformed.
    """
    for folder in companion_folders(file):
        for name in LABEL_FILES:
            if (folder / name).is_file():
                labels = _from_file(folder / name)
                if labels is not None:
                    return labels
    for key in METADATA_KEYS:
        if text := metadata.get(key, "").strip():
            place = f"The metadata '{key}' of {file}"
            try:
                return _label_set(_from_metadata(text), place)
            except _Malformed as error:
                raise OperatorError(f"{place} cannot be used: {error}.") from None
    raise OperatorError(
        f"{file.parent} has no label file: write labels.txt with one category per line, in the "
        "order of the network's outputs, or labels.json with a list."
    )


def problem_type(file: Path) -> str:
    """Returns `problem_type` of the config.json of an ONNX file; empty if there is none."""
    for folder in companion_folders(file):
        try:
            value = json.loads(_decoded(_content(folder / CONFIG)))
        except (OSError, ValueError, RecursionError, _Malformed):
            continue
        if isinstance(value, dict):
            return str(value.get("problem_type") or "")
    return ""


def _from_file(file: Path) -> LabelSet | None:
    """Returns the categories in a file; None if it is a config without any."""
    try:
        content = _content(file)
        refuse_pointer(file, content)
        text = _decoded(content)
        if file.suffix == ".txt":
            return _from_lines(text, str(file))
        try:
            value = json.loads(text, object_pairs_hook=_without_duplicates)
        except RecursionError:
            raise _Malformed("it is nested too deeply") from None
        except ValueError as error:
            raise _Malformed(f"it is not valid JSON: {error}") from None
        if file.name == CONFIG and isinstance(value, dict) and not set(FIELDS) & set(value):
            return None
        return _label_set(value, str(file))
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except _Malformed as error:
        raise OperatorError(f"{file}: {error}.") from None


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _Malformed(f"it is larger than {MAX_BYTES // 2**20} MiB, too large for labels")
    return content


def _decoded(content: bytes) -> str:
    encoding = next((name for mark, name in BOMS if content.startswith(mark)), "")
    if not encoding and len(content) >= 2 and content[:2].count(0) == 1:
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"  # without its mark
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise _Malformed("it is not UTF-8 text: save it as UTF-8") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Malformed(f"it has '{twice}' twice")
    return found


def _from_lines(text: str, place: str) -> LabelSet:
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line]
    synsets = [SYNSET.fullmatch(line) for line in lines]
    if lines and all(synsets):
        return _label_set([[found[1], found[2] or found[1]] for found in synsets if found], place)
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    if len(lines) > 1 and all(numbered):
        numbers = [int(found[1]) for found in numbered if found]
        if sorted(numbers) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            return _label_set({int(found[1]): found[2] for found in numbered if found}, place)
    return _label_set(lines, place)


def _from_metadata(text: str) -> object:
    """Returns what a text of the metadata stands for: JSON, a Python literal, lines or words."""
    if text[0] in "[{(":
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(text)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        raise _Malformed("it is neither JSON nor a list")
    return [word.strip() for word in text.split("\n" if "\n" in text else ",") if word.strip()]


def _label_set(value: object, place: str) -> LabelSet:
    value = _names_in(value)
    is_from_one = False
    if isinstance(value, dict):
        numbers = _numbered(value)
        first = min(numbers, default=0)
        expected = range(first, first + len(numbers))
        if first not in (0, 1) or set(numbers) != set(expected):
            lacking = next((n for n in range(max(numbers, default=0)) if n not in numbers), None)
            missing = f" and lacks {lacking}" if lacking is not None and first >= 0 else ""
            raise _Malformed(
                f"its numbers must count from 0 without gaps, but it has {len(numbers)} from "
                f"{first} to {max(numbers)}{missing}"
            )
        is_from_one = first == 1
        value = [numbers[number] for number in expected]
    if not isinstance(value, list | tuple):
        raise _Malformed("it is not a list of names")
    if not value:
        raise _Malformed("it names no category")
    pairs = [_name_and_id(entry, index) for index, entry in enumerate(value)]
    ids = tuple(wordnet for _, wordnet in pairs)
    return LabelSet(
        names=tuple(name for name, _ in pairs),
        place=place,
        ids=ids if all(ids) else (),
        is_from_one=is_from_one,
    )


def _names_in(value: object) -> object:
    """Returns the part of a JSON value that holds the names."""
    for _ in range(2):  # a field may hold another, such as config.names
        if not isinstance(value, dict):
            break
        field = next(
            (f for f in FIELDS if isinstance(value.get(f), dict | list) and value[f]), None
        )
        if field is None:
            empty = next((f for f in FIELDS if value.get(f) in ({}, [])), None)
            return [] if empty else value
        value = value[field]
    return value


def _numbered(value: dict[object, object]) -> Numbered:
    """Returns names by number; the dictionary has numbers as keys or as values."""
    is_by_value = all(isinstance(number, int) for number in value.values())
    by_key = {_number(key): name for key, name in value.items()}
    if None not in by_key and not is_by_value:
        if len(by_key) != len(value):
            raise _Malformed("it has a number twice")
        return {number: name for number, name in by_key.items() if number is not None}
    by_value: Numbered = {}
    for name, key in value.items():
        number = _number(key)
        if number is None:
            raise _Malformed("it is not a list of names")
        if number in by_value:
            raise _Malformed(f"it gives the number {number} to two categories")
        by_value[number] = name
    return by_value


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
        return int(value)
    return None


def _name_and_id(entry: object, index: int) -> tuple[str, str]:
    """Returns a name without surplus spaces, and its WordNet identifier or an empty text."""
    wordnet = ""
    if isinstance(entry, dict):
        entry = next((entry[key] for key in ("name", "label") if key in entry), None)
    if isinstance(entry, list | tuple):
        words = [str(word) for word in entry]
        if len(words) == 2 and SYNSET.fullmatch(words[0]):
            wordnet, entry = words[0], words[1].replace("_", " ")
        elif len(words) == 1:
            entry = words[0]
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        entry = str(entry)
    if not isinstance(entry, str):
        raise _Malformed("it is not a list of names")
    name = entry.strip(" \t\r\n")
    if not name:
        raise _Malformed(f"a category has no name: the one of output {index}")
    if CONTROL.search(name) or not _is_text(name):
        raise _Malformed(f"the name of output {index} has characters that are not text")
    return name, wordnet


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True


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
