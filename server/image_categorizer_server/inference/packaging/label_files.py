"""The categories of a model, in a file beside it: as text, one a line, or as JSON."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import CategoryEntry
from image_categorizer_server.inference.models.taxonomy import imagenet_categories, with_taxonomy
from image_categorizer_server.inference.packaging.folder import CONFIG, refuse_pointer

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
)
NAME_FIELDS = (
    "names",
    "classes",
    "labels",
    "class_names",
    "id2label",
    "categories",
    "class_to_idx",
)
# Where JSON may hold the names; a config has other fields too.
FIELDS = ("id2label", "label2id", *NAME_FIELDS, "idx_to_class")
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


class MalformedLabels(Exception):
    """A sentence on what is wrong, without the place."""


def labels_beside(folder: Path, names: Iterable[str] = LABEL_FILES) -> LabelSet | None:
    """Returns the categories of the first label file in a folder; None if there is none.

    Args:
        folder: the user's.
        names: of the files that count.

    Raises:
        OperatorError: the file cannot be read or is malformed.
    """
    for name in names:
        if (folder / name).is_file():
            labels = _from_file(folder / name)
            if labels is not None:
                return labels
    return None


def _from_file(file: Path) -> LabelSet | None:
    """Returns the categories in a file; None if it is a config without any."""
    try:
        content = content_of(file)
        refuse_pointer(file, content)
        text = decoded(content)
        if file.suffix == ".txt":
            return _from_lines(text, str(file))
        try:
            value = json.loads(text, object_pairs_hook=_without_duplicates)
        except RecursionError:
            raise MalformedLabels("it is nested too deeply") from None
        except ValueError as error:
            raise MalformedLabels(f"it is not valid JSON: {error}") from None
        if file.name == CONFIG and isinstance(value, dict) and not set(FIELDS) & set(value):
            return None
        return label_set_of(value, str(file))
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except MalformedLabels as error:
        raise OperatorError(f"{file}: {error}.") from None


def content_of(file: Path) -> bytes:
    """Returns the content of a file with labels.

    Raises:
        OSError: it cannot be read.
        MalformedLabels: it is too large.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise MalformedLabels(f"it is larger than {MAX_BYTES // 2**20} MiB, too large for labels")
    return content


def decoded(content: bytes) -> str:
    """Returns text in UTF-8, UTF-16 or UTF-32, with a byte order mark or not.

    Raises:
        MalformedLabels: it is none of these.
    """
    encoding = next((name for mark, name in BOMS if content.startswith(mark)), "")
    if not encoding and len(content) >= 2 and content[:2].count(0) == 1:
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"  # without its mark
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise MalformedLabels("it is not UTF-8 text: save it as UTF-8") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise MalformedLabels(f"it has '{twice}' twice")
    return found


def _from_lines(text: str, place: str) -> LabelSet:
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line]
    synsets = [SYNSET.fullmatch(line) for line in lines]
    if lines and all(synsets):
        return label_set_of([[found[1], found[2] or found[1]] for found in synsets if found], place)
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    if len(lines) > 1 and all(numbered):
        numbers = [int(found[1]) for found in numbered if found]
        if sorted(numbers) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            return label_set_of({int(found[1]): found[2] for found in numbered if found}, place)
    return label_set_of(lines, place)


def label_set_of(value: object, place: str) -> LabelSet:
    """Returns the categories in a JSON value.

    Args:
        value: a list of names, names by number, numbers by name, or an object with such a field.
        place: the file, or what else holds them.

    Raises:
        MalformedLabels: it is none of these.
    """
    value = _names_in(value)
    is_from_one = False
    if isinstance(value, dict):
        numbers = _numbered(value)
        first = min(numbers, default=0)
        expected = range(first, first + len(numbers))
        if first not in (0, 1) or set(numbers) != set(expected):
            lacking = next((n for n in range(max(numbers, default=0)) if n not in numbers), None)
            missing = f" and lacks {lacking}" if lacking is not None and first >= 0 else ""
            raise MalformedLabels(
                f"its numbers must count from 0 without gaps, but it has {len(numbers)} from "
                f"{first} to {max(numbers)}{missing}"
            )
        is_from_one = first == 1
        value = [numbers[number] for number in expected]
    if not isinstance(value, list | tuple):
        raise MalformedLabels("it is not a list of names")
    if not value:
        raise MalformedLabels("it names no category")
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
            raise MalformedLabels("it has a number twice")
        return {number: name for number, name in by_key.items() if number is not None}
    by_value: Numbered = {}
    for name, key in value.items():
        number = _number(key)
        if number is None:
            raise MalformedLabels("it is not a list of names")
        if number in by_value:
            raise MalformedLabels(f"it gives the number {number} to two categories")
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
        raise MalformedLabels("it is not a list of names")
    name = entry.strip(" \t\r\n")
    if not name:
        raise MalformedLabels(f"a category has no name: the one of output {index}")
    if CONTROL.search(name) or not _is_text(name):
        raise MalformedLabels(f"the name of output {index} has characters that are not text")
    return name, wordnet


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True
